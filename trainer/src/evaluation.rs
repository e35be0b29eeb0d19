//! The numbers of one evaluation on held-out data.

#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The number by which runs are compared: the validation loss, or the score on dev.
    pub headline: f64,
    /// Every number by the name of its curve.
    pub values: Vec<(String, f64)>,
}

impl Evaluation {
    /// The number of that name, if the evaluation has it.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
    }
}
