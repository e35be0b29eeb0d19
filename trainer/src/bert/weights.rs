//! The weights of a model, in one flat buffer per group, under their published names.
//!
//! Every weight is a leaf of the graph and a view into its group's buffer. The optimiser, the checkpoints and the
//! clipping work on whole buffers; the model uses the views. Gradients have buffers of the same layout, which the
//! backward pass writes to.

use std::collections::BTreeMap;

use recipe::model::INIT_STANDARD_DEVIATION;
use recipe::seeds::{generator, uniform};
use recipe::{Gate, Model, Precision, Purpose, Seeds};
use tch::{Device, Kind, Tensor, no_grad};

use super::layout::{self, GroupLayout, Head, Start, WeightLayout};
use crate::kernel::{Matrix, Sink};

#[derive(Debug)]
pub struct Weights {
    /// The weights outside the sublayers, then those of each sublayer in forward order, then those of a generator's
    /// sublayers.
    groups: Vec<Group>,
}

/// Weights that are open or closed together.
#[derive(Debug)]
pub struct Group {
    /// `[elements]`, float32.
    values: Tensor,
    /// `[elements]`, the values in bfloat16, if the model computes in bfloat16.
    half: Option<Tensor>,
    /// `[elements]`, float32: the sum over the backward passes of a step. Undefined for a weight that is not `written`.
    gradient: Tensor,
    /// `[weights]`, uint8, on the CPU: 1 if the gradient of the weight has been written in this step.
    written: Tensor,
    /// Number of elements at the front of the buffer that belong to matrices.
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
    /// Weights at their starting values: truncated normal for matrices, 0 for biases, 1 and 0 for LayerNorm. Each
    /// matrix has its own draws, so that two models that differ in one place agree in all others.
    pub fn new(model: &Model, vocabulary: u32, head: impl Into<Head>, seeds: &Seeds, device: Device) -> Self {
        let layouts = layout::groups(model, vocabulary, head.into());
        let groups = layouts.into_iter().map(|group| Group::new(group, seeds, device)).collect();
        Self { groups }
    }

    /// Models that are built from these weights compute in `precision`.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        for group in &mut self.groups {
            group.half = (precision == Precision::Bfloat16).then(|| group.values.to_kind(Kind::BFloat16));
        }
        self
    }

    /// Updates the bfloat16 copies after the values were written by anything but the optimiser.
    pub(crate) fn refresh(&self) {
        self.groups.iter().for_each(Group::refresh);
    }

    /// The weights outside the sublayers, then those of each sublayer in forward order, then those of a generator's
    /// sublayers.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Mutable access to the groups' buffers, for the optimiser.
    pub(crate) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// For each group, true if it takes part in a step: those of open sublayers, and always the group outside them. A
    /// generator has the gates of the model.
    pub fn open(&self, gates: &[Gate]) -> Vec<bool> {
        let sublayers = gates.iter().map(Gate::is_open).cycle().take(self.groups.len() - 1);
        std::iter::once(true).chain(sublayers).collect()
    }

    /// The groups of both halves of `block` (from 0), in a model with the usual order of sublayers and no generator.
    pub(crate) fn groups_of_block(block: u32) -> [usize; 2] {
        [1, 2].map(|half| 2 * block as usize + half)
    }

    /// Copies the values of the group `from` to the group `to`, which has the same layout.
    pub(crate) fn copy_group(&mut self, from: usize, to: usize) {
        let source = self.groups[from].values.shallow_clone();
        overwrite(&mut self.groups[to].values, &source);
        self.groups[to].refresh();
    }

    /// All weights by published name, as views.
    pub fn named(&self) -> BTreeMap<String, Tensor> {
        self.groups.iter().flat_map(|group| group.named(&group.values)).collect()
    }

    /// Bytes of the values, of their bfloat16 copies and of the gradients.
    pub fn bytes(&self) -> u64 {
        let buffers =
            |group: &Group| [&group.values, &group.gradient].into_iter().chain(&group.half).map(bytes).sum::<u64>();
        self.groups.iter().map(buffers).sum()
    }

    /// Number of elements.
    pub fn elements(&self) -> i64 {
        self.groups.iter().map(Group::elements).sum()
    }

    /// The leaf of the weight whose first part has this `name`.
    ///
    /// # Panics
    /// If there is no such weight, because model and layout disagree.
    pub(super) fn leaf(&self, name: &str) -> Tensor {
        let (group, index) = self.find(name);
        group.weights[index].leaf.shallow_clone()
    }

    /// The same weight with what products need: its bfloat16 copy, if there is one, and the place for its gradient.
    ///
    /// # Panics
    /// If there is no such weight.
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

    /// True if matrix products are in bfloat16.
    pub(super) fn is_half(&self) -> bool {
        self.groups.iter().all(|group| group.half.is_some())
    }

    /// The group that holds the weight of that name, and the weight's index in it.
    fn find(&self, name: &str) -> (&Group, usize) {
        let index = |group: &Group| group.weights.iter().position(|weight| weight.layout.names[0] == name);
        match self.groups.iter().find_map(|group| Some((group, index(group)?))) {
            Some(found) => found,
            None => panic!("the layout has no weight {name}"),
        }
    }
}

/// Bytes of a tensor's elements; 0 if the tensor is undefined.
pub(crate) fn bytes(tensor: &Tensor) -> u64 {
    if tensor.defined() { (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64 } else { 0 }
}

impl Weight {
    /// The part of `buffer` that belongs to this weight; `buffer` has the layout of its group.
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
        // Its memory is first touched when a backward pass writes to it.
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

    /// Adds the gradients that the graph returned, one for each leaf. A gradient is undefined if the weight has none,
    /// or if the backward pass has written it to the buffer itself.
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

    /// The gradient of the whole group, `[elements]`, float32, after zeros are written for every weight that has none,
    /// such as those of a head that was not used.
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

    /// True if a backward pass of this step has written a gradient.
    pub fn has_gradient(&self) -> bool {
        self.written().contains(&true)
    }

    /// The gradient, `[elements]`, of the last step in which the group was open.
    pub fn gradient(&self) -> &Tensor {
        &self.gradient
    }

    /// Discards the gradient: the next backward pass begins a new sum.
    pub fn forget_gradient(&self) {
        let _ = self.written.shallow_clone().zero_();
    }

    /// For each weight, true if it has a gradient.
    fn written(&self) -> Vec<bool> {
        let mut flags = vec![0u8; self.weights.len()];
        self.written.copy_data_u8(&mut flags, self.weights.len());
        flags.into_iter().map(|flag| flag != 0).collect()
    }

    fn mark(&self, written: &[bool]) {
        let flags: Vec<u8> = written.iter().map(|&written| written.into()).collect();
        self.written.shallow_clone().copy_(&Tensor::from_slice(&flags));
    }

    /// The buffer of the values.
    pub(crate) fn values(&mut self) -> &mut Tensor {
        &mut self.values
    }

    /// The buffers of the values, of their bfloat16 copies and of the gradient.
    pub(crate) fn buffers(&mut self) -> (&mut Tensor, Option<&mut Tensor>, &Tensor) {
        (&mut self.values, self.half.as_mut(), &self.gradient)
    }

    /// Updates the bfloat16 copies.
    pub(crate) fn refresh(&self) {
        if let Some(half) = &self.half {
            no_grad(|| half.shallow_clone().copy_(&self.values));
        }
    }

    /// Read-only access to the buffer of the values.
    pub(crate) fn buffer(&self) -> &Tensor {
        &self.values
    }

    /// Number of elements at the front of the buffer that belong to matrices.
    pub(crate) fn matrices(&self) -> i64 {
        self.matrices
    }

    /// Views into `buffer` by published name; `buffer` has the layout of this group, such as its values, gradients or
    /// moments.
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

/// Copies `source` over `target`, which has the same shape, outside the graph.
pub(crate) fn overwrite(target: &mut Tensor, source: &Tensor) {
    no_grad(|| target.copy_(&source.to_kind(Kind::Float)));
}
