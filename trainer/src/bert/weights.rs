//! The weights of a model, in one flat buffer per group, under their published names.
//!
//! Every weight is a leaf of the graph that looks into its group's buffer. The optimiser, the checkpoint and the clip work
//! on whole buffers; the model sees matrices. Gradients have buffers of the same layout, which the backward pass writes to.

use std::collections::BTreeMap;

use recipe::model::INIT_STANDARD_DEVIATION;
use recipe::seeds::{generator, uniform};
use recipe::{Gate, Model, Precision, Purpose, Seeds};
use tch::{Device, Kind, Tensor, no_grad};

use super::layout::{self, GroupLayout, Head, Start, WeightLayout};
use crate::kernel::{Matrix, Sink};

#[derive(Debug)]
pub struct Weights {
    /// The weights outside the sublayers, then those of each sublayer in forward order; after them a generator's.
    groups: Vec<Group>,
}

/// Weights that are open or closed together.
#[derive(Debug)]
pub struct Group {
    /// `[elements]`, float32.
    values: Tensor,
    /// `[elements]`, the values in bfloat16, where the model computes in it.
    half: Option<Tensor>,
    /// `[elements]`, float32: what a step's backward passes add up. Nothing is there of a weight that is not `written`.
    gradient: Tensor,
    /// `[weights]`, uint8, on the CPU.
    written: Tensor,
    /// So many elements at the front belong to matrices.
    matrices: i64,
    weights: Vec<Weight>,
}

#[derive(Debug)]
struct Weight {
    layout: WeightLayout,
    /// Index of its first element in the group's buffer.
    offset: i64,
    /// A view into the group's buffer.
    leaf: Tensor,
}

impl Weights {
    /// Weights at their starting values: matrices from a truncated normal, biases 0, LayerNorm 1 and 0. Each matrix has
    /// draws of its own, so models that differ in one place agree in all others.
    pub fn new(model: &Model, vocabulary: u32, head: impl Into<Head>, seeds: &Seeds, device: Device) -> Self {
        let layouts = layout::groups(model, vocabulary, head.into());
        let groups = layouts.into_iter().map(|group| Group::new(group, seeds, device)).collect();
        Self { groups }
    }

    /// Has a model that is made from here on compute in `precision`.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        for group in &mut self.groups {
            group.half = (precision == Precision::Bfloat16).then(|| group.values.to_kind(Kind::BFloat16));
        }
        self
    }

    /// Follows values that were written from outside the optimiser.
    pub(crate) fn refresh(&self) {
        self.groups.iter().for_each(Group::refresh);
    }

    /// The weights outside the sublayers, then those of each sublayer in forward order; after them a generator's.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Mutable access to the groups' buffers, for the optimiser.
    pub(crate) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// The groups that take part in a step: those of open sublayers, and always what lies outside them. A generator's
    /// sublayers go with the model's.
    pub fn open(&self, gates: &[Gate]) -> Vec<bool> {
        let sublayers = gates.iter().map(Gate::is_open).cycle().take(self.groups.len() - 1);
        std::iter::once(true).chain(sublayers).collect()
    }

    /// The groups of the two halves of `block` (from 0), in a model of the usual order without a generator.
    pub(crate) fn groups_of_block(block: u32) -> [usize; 2] {
        [1, 2].map(|half| 2 * block as usize + half)
    }

    /// Gives the group at `to` the values of the one at `from`, of the same layout.
    pub(crate) fn copy_group(&mut self, from: usize, to: usize) {
        let source = self.groups[from].values.shallow_clone();
        overwrite(&mut self.groups[to].values, &source);
        self.groups[to].refresh();
    }

    /// All weights by published name, as views.
    pub fn named(&self) -> BTreeMap<String, Tensor> {
        self.groups.iter().flat_map(|group| group.named(&group.values)).collect()
    }

    /// Bytes of the values in all their types, and of the gradients.
    pub fn bytes(&self) -> u64 {
        let buffers =
            |group: &Group| [&group.values, &group.gradient].into_iter().chain(&group.half).map(bytes).sum::<u64>();
        self.groups.iter().map(buffers).sum()
    }

    /// Number of elements.
    pub fn elements(&self) -> i64 {
        self.groups.iter().map(Group::elements).sum()
    }

    /// The leaf of the weight whose first part goes by `name`.
    ///
    /// # Panics
    /// When there is none: model and layout disagree.
    pub(super) fn leaf(&self, name: &str) -> Tensor {
        let (group, index) = self.find(name);
        group.weights[index].leaf.shallow_clone()
    }

    /// The same with what products need: in bfloat16, where the model computes in it, and the place for its gradient.
    pub(crate) fn matrix(&self, name: &str) -> Matrix {
        let (group, index) = self.find(name);
        let weight = &group.weights[index];
        Matrix {
            value: weight.leaf.shallow_clone(),
            half: group.half.as_ref().map(|half| weight.view(half)),
            sink: Some(Sink {
                gradient: weight.view(&group.gradient),
                written: group.written.narrow(0, index as i64, 1),
            }),
        }
    }

    /// Whether products are in bfloat16.
    pub(super) fn is_half(&self) -> bool {
        self.groups.iter().all(|group| group.half.is_some())
    }

    /// The group of that name, and the weight's place in it.
    fn find(&self, name: &str) -> (&Group, usize) {
        let place = |group: &Group| group.weights.iter().position(|weight| weight.layout.names[0] == name);
        match self.groups.iter().find_map(|group| Some((group, place(group)?))) {
            Some(found) => found,
            None => unreachable!("the layout has no weight {name}"),
        }
    }
}

/// Bytes of a tensor's elements; none where it is undefined.
pub(crate) fn bytes(tensor: &Tensor) -> u64 {
    if tensor.defined() { (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64 } else { 0 }
}

impl Weight {
    /// Its part of a `buffer` that is laid out like its group.
    fn view(&self, buffer: &Tensor) -> Tensor {
        let shape = self.leaf.size();
        buffer.narrow(0, self.offset, shape.iter().product()).view(&shape[..])
    }
}

impl Group {
    fn new(GroupLayout { number, weights: layouts }: GroupLayout, seeds: &Seeds, device: Device) -> Self {
        let size = |layout: &WeightLayout| layout.shape.iter().product::<i64>();
        let matrices = layouts.iter().filter(|layout| layout.shape.len() > 1).map(size).sum();
        let mut start = Vec::with_capacity(layouts.iter().map(size).sum::<i64>() as usize);
        let mut offsets = Vec::with_capacity(layouts.len());
        for (index, layout) in (0u64..).zip(&layouts) {
            offsets.push(start.len() as i64);
            let elements = size(layout) as usize;
            match layout.start {
                Start::Zeros => start.resize(start.len() + elements, 0.0),
                Start::Ones => start.resize(start.len() + elements, 1.0),
                Start::Normal => truncated_normal(&mut start, elements, seeds.init, Purpose::Init, number, index),
                Start::HeadNormal => truncated_normal(&mut start, elements, seeds.head, Purpose::Head, number, index),
            }
        }
        let values = Tensor::from_slice(&start).to_device(device);
        let weights: Vec<Weight> = layouts
            .into_iter()
            .zip(offsets)
            .map(|(layout, offset)| {
                let view = values.narrow(0, offset, size(&layout)).view(&layout.shape[..]);
                Weight { leaf: view.detach().set_requires_grad(true), layout, offset }
            })
            .collect();
        // Nothing of it is touched before a backward pass writes to it.
        let gradient = Tensor::empty_like(&values);
        let written = Tensor::zeros([weights.len() as i64], (Kind::Uint8, Device::Cpu));
        Self { values, half: None, gradient, written, matrices, weights }
    }

    pub fn elements(&self) -> i64 {
        self.values.numel() as i64
    }

    /// The leaves, in the order of the buffer.
    pub fn leaves(&self) -> impl Iterator<Item = &Tensor> {
        self.weights.iter().map(|weight| &weight.leaf)
    }

    /// Adds gradients that the graph gave back, one for each leaf, undefined where there is none or where the backward pass
    /// has left it in the buffer itself.
    pub(crate) fn add_gradients(&self, parts: impl Iterator<Item = Tensor>) {
        let mut written = self.written();
        for ((weight, part), written) in self.weights.iter().zip(parts).zip(&mut written) {
            if part.defined() {
                let mut sum = weight.view(&self.gradient);
                no_grad(|| if *written { drop(sum.g_add_(&part)) } else { sum.copy_(&part) });
                *written = true;
            }
        }
        self.mark(&written);
    }

    /// Zeros for every weight of which there is no gradient, such as those of a head that was not asked. What the backward
    /// passes have added up, `[elements]`, float32.
    pub(crate) fn whole_gradient(&self) -> &Tensor {
        let mut written = self.written();
        for (weight, written) in self.weights.iter().zip(&mut written) {
            if !std::mem::replace(written, true) {
                let _ = no_grad(|| weight.view(&self.gradient).zero_());
            }
        }
        self.mark(&written);
        &self.gradient
    }

    /// Whether a backward pass has left something of this step.
    pub fn has_gradient(&self) -> bool {
        self.written().contains(&true)
    }

    /// The gradient, `[elements]`, as the last step that saw the group open left it.
    pub fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// The next backward pass begins a new sum.
    pub fn forget_gradient(&self) {
        let _ = self.written.shallow_clone().zero_();
    }

    /// Whether there is a gradient of each weight.
    fn written(&self) -> Vec<bool> {
        let mut flags = vec![0u8; self.weights.len()];
        self.written.copy_data_u8(&mut flags, self.weights.len());
        flags.into_iter().map(|flag| flag != 0).collect()
    }

    fn mark(&self, written: &[bool]) {
        let flags: Vec<u8> = written.iter().map(|&written| written.into()).collect();
        self.written.shallow_clone().copy_(&Tensor::from_slice(&flags));
    }

    /// The whole buffer.
    pub(crate) fn values(&mut self) -> &mut Tensor {
        &mut self.values
    }

    /// The whole buffer, the same in bfloat16, and the gradient.
    pub(crate) fn buffers(&mut self) -> (&mut Tensor, Option<&mut Tensor>, &Tensor) {
        (&mut self.values, self.half.as_mut(), &self.gradient)
    }

    /// Follows the values in bfloat16.
    pub(crate) fn refresh(&self) {
        if let Some(half) = &self.half {
            no_grad(|| half.shallow_clone().copy_(&self.values));
        }
    }

    /// The whole buffer, to look at.
    pub(crate) fn buffer(&self) -> &Tensor {
        &self.values
    }

    /// How many elements at the front of the buffer belong to matrices.
    pub(crate) fn matrices(&self) -> i64 {
        self.matrices
    }

    /// Views into `buffer`, which is laid out like this group (its values, gradients, moments), by published name.
    pub fn named(&self, buffer: &Tensor) -> Vec<(String, Tensor)> {
        let mut list = Vec::new();
        for weight in &self.weights {
            let WeightLayout { names, shape, .. } = &weight.layout;
            let mut part_shape = shape.clone();
            part_shape[0] /= names.len() as i64;
            let elements = part_shape.iter().product::<i64>();
            for (part, name) in (0..).zip(names) {
                let view = buffer.narrow(0, weight.offset + part * elements, elements).view(&part_shape[..]);
                list.push((name.clone(), view));
            }
        }
        list
    }
}

/// Appends `count` draws from a normal distribution cut at two standard deviations.
fn truncated_normal(out: &mut Vec<f32>, count: usize, seed: u64, purpose: Purpose, group: u64, index: u64) {
    let mut draws = generator(seed, purpose, group, index);
    let end = out.len() + count;
    while out.len() < end {
        // Box-Muller; 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - uniform(&mut draws)).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * uniform(&mut draws)).sin_cos();
        for z in [radius * cosine, radius * sine] {
            if z.abs() <= 2.0 && out.len() < end {
                out.push((z * INIT_STANDARD_DEVIATION) as f32);
            }
        }
    }
}

/// Copies `source` over `target`, of the same shape, outside the graph.
pub(crate) fn overwrite(target: &mut Tensor, source: &Tensor) {
    no_grad(|| target.copy_(&source.to_kind(Kind::Float)));
}
