//! Named seeds, and the counter-based draws that are made from them.
//!
//! A run carries no state of a random generator: each draw is a function of (seed, purpose, step, index). A run can
//! therefore be resumed or replayed from any step, and a gate is the same on every rank by construction.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// The named integers of a trial. Equal (recipe, seeds, device class) = equal result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Seeds {
    /// Initial weights of the encoder and of the pre-training head.
    pub init: u64,
    /// Order of the examples, and choice of the masked tokens. In a timing trial also the order of the arms.
    pub data: u64,
    /// Ordinary dropout.
    pub dropout: u64,
    /// Gates of layer drop.
    pub gate: u64,
    /// Initial weights of the fine-tuning head.
    pub head: u64,
}

impl Seeds {
    /// Every seed set to `n`, as in a job that only says how many seeds it wants.
    pub const fn all(n: u64) -> Self {
        Self { init: n, data: n, dropout: n, gate: n, head: n }
    }
}

/// The use of a draw. The number is part of every recorded result: never change one. 9 to 11 have never been used, and
/// are free for new purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    Init = 1,
    Shuffle = 2,
    Mask = 3,
    Dropout = 4,
    Gate = 5,
    Head = 6,
    HeldOut = 7,
    /// Tokens that ELECTRA's generator fills in.
    Replace = 8,
    /// Choice of the training examples that are set apart to select a learning rate.
    Selection = 12,
    /// Order in which the arms of a timing trial have their turns in a round.
    Order = 13,
}

/// The generator for one (seed, purpose, step, index): ChaCha8 with these four words as its key, so that neighbouring
/// counters give unrelated streams.
pub fn generator(seed: u64, purpose: Purpose, step: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, step, index]) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniform number in [0, 1) with 53 random bits.
pub fn uniform(generator: &mut impl Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A uniform integer in [0, bound), without bias (Lemire's multiply-and-reject).
///
/// # Panics
/// When `bound` is 0.
pub fn below(generator: &mut impl Rng, bound: u64) -> u64 {
    assert!(bound > 0, "below() needs a positive bound");
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let wide = u128::from(generator.next_u64()) * u128::from(bound);
        if wide as u64 >= threshold {
            return (wide >> 64) as u64;
        }
    }
}

/// A permutation of 0..n (Fisher-Yates).
pub fn permutation(generator: &mut impl Rng, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        order.swap(i, below(generator, i as u64 + 1) as usize);
    }
    order
}

/// The seed of the validation part. It belongs to the data and not to a trial: every seed and every arm validates on
/// the same documents or images.
pub const HELD_OUT_SEED: u64 = 0x6865_6c64_206f_7574;

/// True if the document or image at `index` (from 0) belongs to a validation part of this share. Each has an
/// independent draw.
pub fn is_held_out(index: u64, share: f64) -> bool {
    uniform(&mut generator(HELD_OUT_SEED, Purpose::HeldOut, index, 0)) < share
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_draw_depends_on_each_of_its_four_words(seed: u64, step in 0u64..1 << 40, index in 0u64..1000) {
            let value = |s, p, t, i| generator(s, p, t, i).next_u64();
            let here = value(seed, Purpose::Gate, step, index);
            prop_assert_eq!(here, value(seed, Purpose::Gate, step, index));
            prop_assert_ne!(here, value(seed ^ 1, Purpose::Gate, step, index));
            prop_assert_ne!(here, value(seed, Purpose::Mask, step, index));
            prop_assert_ne!(here, value(seed, Purpose::Gate, step + 1, index));
            prop_assert_ne!(here, value(seed, Purpose::Gate, step, index + 1));
        }

        #[test]
        fn a_permutation_holds_each_number_once(seed: u64, n in 0usize..300) {
            let mut order = permutation(&mut generator(seed, Purpose::Shuffle, 0, 0), n);
            order.sort_unstable();
            prop_assert!(order.iter().enumerate().all(|(i, &v)| i == v as usize));
        }
    }

    #[test]
    fn draws_never_change() {
        let mut g = generator(7, Purpose::Gate, 1000, 3);
        assert_eq!(PINNED, [g.next_u64(), g.next_u64()]);
    }

    const PINNED: [u64; 2] = [1131785985997224871, 14313664565660035985];
}
