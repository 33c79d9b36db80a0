//! The backend as a whole, on every tier of this CPU and in both precisions.

use preface_backend::conformance::{Tolerance, check};

use crate::{CpuBackend, CpuError, CpuOptions, Precision, Tier};

#[test]
fn every_tier_and_precision_conforms() {
    for tier in Tier::available() {
        for (precision, tolerance) in [(Precision::F32, Tolerance::F32), (Precision::Bf16, Tolerance::BF16)] {
            let options = CpuOptions { precision, threads: 2, tier: Some(tier) };
            let report = check(&CpuBackend::new(options).unwrap(), tolerance);
            assert!(report.passed(), "{tier:?} {precision:?}: {report}");
        }
    }
}

#[test]
fn impossible_options_are_refused() {
    let options = CpuOptions { threads: 0, ..CpuOptions::default() };
    assert!(matches!(CpuBackend::new(options), Err(CpuError::NoThreads)));
    for tier in [Tier::Scalar, Tier::Avx2, Tier::Avx512] {
        let result = CpuBackend::new(CpuOptions { tier: Some(tier), ..CpuOptions::default() });
        let missing = matches!(result, Err(CpuError::MissingTier { .. }));
        assert_eq!(missing, !Tier::available().contains(&tier), "{tier:?}");
    }
}
