//! Why an attempt failed. The kind alone decides whether a retry makes sense.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FailureKind {
    InvalidRecipe,
    BadData,
    NonFiniteLoss,
    /// The loss rose further above its lowest than the recipe allows.
    Diverged,
    OutOfMemory,
    DiskFull,
    CorruptCheckpoint,
    DeviceFault,
    /// The step did not move for the recipe's stall time.
    Stalled,
    /// The process ended without saying why (a signal, a crash).
    Crashed,
    /// A defect of Lamina's own.
    Internal,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    pub kind: FailureKind,
    /// One sentence for the person who has to act; names file and line, step or size where there is one.
    pub message: String,
}

impl FailureKind {
    /// Whether it says something of the recipe and nothing of the machine: a run that diverged is a result.
    pub const fn is_divergence(self) -> bool {
        matches!(self, FailureKind::NonFiniteLoss | FailureKind::Diverged)
    }

    pub const ALL: [FailureKind; 11] = [
        FailureKind::InvalidRecipe,
        FailureKind::BadData,
        FailureKind::NonFiniteLoss,
        FailureKind::Diverged,
        FailureKind::OutOfMemory,
        FailureKind::DiskFull,
        FailureKind::CorruptCheckpoint,
        FailureKind::DeviceFault,
        FailureKind::Stalled,
        FailureKind::Crashed,
        FailureKind::Internal,
    ];

    /// Whether the same recipe can come out otherwise when it is started again. A run is deterministic: what depends on
    /// the recipe and the data alone would only fail again.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::InvalidRecipe | Self::BadData | Self::NonFiniteLoss | Self::Diverged | Self::Internal => false,
            Self::OutOfMemory
            | Self::DiskFull
            | Self::CorruptCheckpoint
            | Self::DeviceFault
            | Self::Stalled
            | Self::Crashed => true,
        }
    }

    /// Exit status of `lamina-trainer`, after sysexits.h where it has a match.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadData => 65,
            Self::Internal => 70,
            Self::OutOfMemory => 71,
            Self::DeviceFault => 72,
            Self::Stalled => 73,
            Self::DiskFull => 74,
            Self::NonFiniteLoss => 76,
            Self::CorruptCheckpoint => 77,
            Self::InvalidRecipe => 78,
            Self::Crashed => 79,
            Self::Diverged => 80,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRecipe => "invalid_recipe",
            Self::BadData => "bad_data",
            Self::NonFiniteLoss => "non_finite_loss",
            Self::Diverged => "diverged",
            Self::OutOfMemory => "out_of_memory",
            Self::DiskFull => "disk_full",
            Self::CorruptCheckpoint => "corrupt_checkpoint",
            Self::DeviceFault => "device_fault",
            Self::Stalled => "stalled",
            Self::Crashed => "crashed",
            Self::Internal => "internal",
        }
    }
}

/// Exit status of a trainer that wrote a checkpoint and left because it was asked to (sysexits' "try again").
pub const INTERRUPTED_EXIT_CODE: u8 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_differ_and_names_match_the_wire() {
        let mut codes: Vec<u8> =
            FailureKind::ALL.iter().map(|k| k.exit_code()).chain([INTERRUPTED_EXIT_CODE, 0]).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FailureKind::ALL.len() + 2);
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
