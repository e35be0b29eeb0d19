//! Why an attempt failed.

use serde::{Deserialize, Serialize};

use crate::named_enum;

named_enum! {
    /// The kind of a failure. It alone decides whether a retry makes sense.
    #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
    #[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "failure_kind", rename_all = "snake_case"))]
    pub enum FailureKind {
        InvalidRecipe = "invalid_recipe",
        BadData = "bad_data",
        NonFiniteLoss = "non_finite_loss",
        /// The loss rose further above its lowest value than the recipe allows.
        Diverged = "diverged",
        OutOfMemory = "out_of_memory",
        DiskFull = "disk_full",
        CorruptCheckpoint = "corrupt_checkpoint",
        DeviceFault = "device_fault",
        /// The step did not advance for as long as the server's policy allows.
        Stalled = "stalled",
        /// The process ended without an event that gives a reason (a signal, a crash).
        Crashed = "crashed",
        /// A defect of Lamina itself.
        Internal = "internal",
    }
}

/// The reason why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    pub kind: FailureKind,
    /// One sentence for the person who has to act. It names file and line, step or size, as far as there are any.
    pub message: String,
}

impl FailureKind {
    /// True if training itself diverged. Such a failure says nothing about the machine: it is a result of the recipe.
    pub const fn is_divergence(self) -> bool {
        matches!(self, FailureKind::NonFiniteLoss | FailureKind::Diverged)
    }

    /// True if another attempt with the same recipe can succeed. A run is deterministic, so a failure that depends on
    /// the recipe and the data alone would occur again.
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

    /// Exit status of `lamina-trainer`; the codes of sysexits.h are used where one fits.
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
}

/// Exit status of a trainer that wrote a checkpoint and stopped on request (sysexits.h: "try again").
pub const INTERRUPTED_EXIT_CODE: u8 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_differ() {
        let mut codes: Vec<u8> =
            FailureKind::ALL.iter().map(|k| k.exit_code()).chain([INTERRUPTED_EXIT_CODE, 0]).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FailureKind::ALL.len() + 2);
    }
}
