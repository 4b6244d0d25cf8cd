//! The self-test: what Burgess computes, at small sizes, on a device and on the CPU.
//!
//! It finds devices that compute something else without an error: shader compilers and drivers that are wrong, and
//! backends that understand a mask, `is_causal` with a cache, or a soft cap differently.

mod checks;

use crate::machine::workers::guarded;
use burgess_base::{Error, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Largest difference from flex that a forward pass may have: 10-bit mantissas of tensor cores pass, a wrong kernel or
/// mask does not.
const FORWARD: f64 = 2e-3;
/// Largest difference of losses and gradients.
const BACKWARD: f64 = 1e-2;
/// Largest difference of a forward pass in bfloat16, whose mantissa has 7 bits, from one in f32.
const BFLOAT16: f64 = 5e-2;

/// One comparison of the self-test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was computed, and in which shape.
    pub name: String,
    /// ‖a−b‖/‖b‖ of the device's result a and the CPU's b; `None` if there is no comparable result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    /// Largest difference that is accepted.
    pub limit: f64,
    /// Duration on the device in seconds, with the compilation of its kernels.
    pub seconds: f64,
    /// Why there is no comparable result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Check {
    /// Whether the device computed what the CPU computes.
    pub fn passed(&self) -> bool {
        self.problem.is_none() && self.difference.is_some_and(|d| d <= self.limit)
    }
}

/// The outcome of a self-test that ran to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Name of the device.
    pub device: String,
    /// The comparisons, in the order in which they were made. After one without a result, no other was made.
    pub checks: Vec<Check>,
}

impl SelfTest {
    /// Whether the device computed what the CPU computes in all comparisons.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// Largest difference of all comparisons.
    pub fn worst(&self) -> f64 {
        self.checks.iter().filter_map(|c| c.difference).fold(0.0, f64::max)
    }

    /// Duration on the device in seconds.
    pub fn seconds(&self) -> f64 {
        self.checks.iter().map(|c| c.seconds).sum()
    }

    /// The outcome in a few words: `3e-6 from flex`, or what differs.
    pub fn summary(&self) -> String {
        let failed: Vec<&Check> = self.checks.iter().filter(|c| !c.passed()).collect();
        let Some(first) = failed.first() else {
            return format!("{} checks, at most {:.0e} from flex", self.checks.len(), self.worst());
        };
        let what = match (&first.problem, first.difference) {
            (Some(problem), _) => format!("{}: {problem}", first.name),
            (None, difference) => format!(
                "{} differs from flex by {:.2e} (accepted: {:.0e})",
                first.name,
                difference.unwrap_or(f64::NAN),
                first.limit
            ),
        };
        match failed.len() {
            1 => what,
            n => format!("{what}; {n} of {} checks fail", self.checks.len()),
        }
    }
}

/// Runs the self-test of a device in this process. `note` is told what comes next, so that a crash can be placed.
///
/// # Errors
/// The device's name is invalid.
pub fn self_test(name: &str, note: &dyn Fn(&str)) -> Result<SelfTest> {
    let device = super::parse(name)?;
    Ok(compare(name, &device, &Device::flex(), note))
}

/// Compares a device with another.
fn compare(name: &str, device: &Device, reference: &Device, note: &dyn Fn(&str)) -> SelfTest {
    let mut checks = Vec::new();
    for (what, limit, compute) in checks::all() {
        note(&what);
        let clock = Instant::now();
        let found = guarded(|| compute(device));
        let seconds = clock.elapsed().as_secs_f64();
        let outcome = found.and_then(|found| difference(&found, &guarded(|| compute(reference))?));
        let (difference, problem) = match outcome {
            Ok(difference) => (Some(difference), None),
            // The chain without the hint for bugs of Burgess.
            Err(e) => (None, Some(e.to_string())),
        };
        let failed = problem.is_some();
        checks.push(Check { name: what, difference, limit, seconds, problem });
        if failed {
            // A backend that panicked may wait for itself forever.
            break;
        }
    }
    SelfTest { device: name.to_string(), checks }
}

/// ‖a−b‖/‖b‖.
fn difference(found: &[f32], expected: &[f32]) -> Result<f64> {
    if found.len() != expected.len() {
        return Err(Error::failed(format!("{} values, expected {}", found.len(), expected.len())));
    }
    let strange = found.iter().filter(|v| !v.is_finite()).count();
    if strange > 0 {
        return Err(Error::failed(format!("{strange} of {} values are not finite", found.len())));
    }
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let distance = square(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let size = square(&mut expected.iter().map(|v| f64::from(*v)));
    // The results of the CPU are never all zero: a test checks that.
    Ok((distance / size.max(f64::MIN_POSITIVE)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_on_results_that_are_not_trivial() -> Result<()> {
        let test = self_test("flex", &|_| {})?;
        assert!(test.passed() && test.checks.len() >= 15, "{test:?}");
        assert!(test.checks.iter().all(|c| c.difference == Some(0.0)), "{test:?}");
        for (name, _, compute) in checks::all() {
            let values = compute(&Device::flex())?;
            assert!(values.iter().all(|v| v.is_finite()), "{name}");
            assert!(values.iter().any(|v| *v != 0.0 && *v != values[0]), "{name} is constant");
        }
        Ok(())
    }

    #[test]
    fn differences_and_values_that_are_not_finite_are_found() -> Result<()> {
        assert_eq!(difference(&[3.0, 4.0], &[3.0, 4.0])?, 0.0);
        assert!((difference(&[3.0, 5.0], &[3.0, 4.0])? - 0.2).abs() < 1e-12);
        assert!(difference(&[f32::NAN, 4.0], &[3.0, 4.0]).unwrap_err().to_string().contains("1 of 2"));
        assert!(difference(&[3.0], &[3.0, 4.0]).is_err());
        let check = |difference, problem: Option<&str>| Check {
            name: "softmax".into(),
            difference,
            limit: FORWARD,
            seconds: 0.5,
            problem: problem.map(String::from),
        };
        let test = |checks| SelfTest { device: "wgpu".into(), checks };
        let good = test(vec![check(Some(3e-6), None), check(Some(1e-7), None)]);
        assert!(good.passed());
        assert_eq!(good.summary(), "2 checks, at most 3e-6 from flex");
        let wrong = test(vec![check(Some(1e-7), None), check(Some(1.35), None)]);
        assert_eq!(wrong.summary(), "softmax differs from flex by 1.35e0 (accepted: 2e-3)");
        let broken = test(vec![check(None, Some("3 of 9 values are not finite"))]);
        assert!(!broken.passed() && broken.summary().contains("not finite"));
        assert!(!test(Vec::new()).passed());
        Ok(())
    }
}
