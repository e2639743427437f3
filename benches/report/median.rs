//! Medians and other places in a row of measurements.

/// The middle of them; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    at(values, 0.5)
}

pub fn largest(values: &[f64]) -> f64 {
    at(values, 1.0)
}

/// The value below which the share `quantile` of all lies.
fn at(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile).round() as usize).copied().unwrap_or(f64::NAN)
}
