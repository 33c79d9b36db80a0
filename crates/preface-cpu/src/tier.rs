//! Instruction-set tiers: which the CPU has, and running a kernel with one.

use crate::CpuError;
#[cfg(target_arch = "aarch64")]
use crate::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Kernel, Scalar};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The target's baseline.
    Scalar,
    /// NEON of 64-bit ARM.
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with AVX-512 BF16.
    Avx512Bf16,
}

impl Tier {
    /// All tiers, slowest first.
    pub const ALL: [Self; 5] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The tiers that this CPU has, slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|tier| tier.is_available()).collect()
    }

    /// The fastest tier that this CPU has.
    pub fn best() -> Self {
        Self::available().pop().expect("the scalar tier runs everywhere")
    }

    /// Name as logs and benches print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// This tier, if the CPU has it.
    pub(crate) fn require(self) -> Result<Self, CpuError> {
        if self.is_available() {
            return Ok(self);
        }
        let names: Vec<&str> = Self::available().into_iter().map(Self::name).collect();
        Err(CpuError::MissingTier { tier: self.name(), available: names.join(", ") })
    }

    fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Neon::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::<false>::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Avx512::<true>::new().is_some(),
            // Of another architecture.
            _ => false,
        }
    }

    /// Runs `kernel` with the instructions of this tier, or with plain code if the CPU lacks them.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::Neon => {
                if let Some(simd) = Neon::new() {
                    return simd.run(kernel);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                if let Some(simd) = Avx2::new() {
                    return simd.run(kernel);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                if let Some(simd) = Avx512::<false>::new() {
                    return simd.run(kernel);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                if let Some(simd) = Avx512::<true>::new() {
                    return simd.run(kernel);
                }
            }
            _ => {}
        }
        kernel.run(Scalar)
    }
}
