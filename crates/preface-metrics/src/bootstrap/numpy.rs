//! NumPy's `default_rng(seed)`, as far as resampling draws from it: the PCG64 generator (O'Neill, 2014; 128-bit LCG with
//! the XSL-RR output), seeded through `SeedSequence`, with Lemire's bounded integers.
//!
//! The same seed gives the same draws as `choice(n, size, replace=True)` and `integers(2, size, dtype=bool)`.

const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;
const POOL_SIZE: usize = 4;

/// A `default_rng`.
pub struct Generator {
    state: u128,
    increment: u128,
    /// Upper half of the last output, not yet used.
    half: Option<u32>,
}

impl Generator {
    /// `default_rng(seed)`.
    pub fn new(seed: u64) -> Self {
        let words = seed_words(seed);
        let join = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let mut generator = Self { state: 0, increment: join(words[2], words[3]) << 1 | 1, half: None };
        generator.step();
        generator.state = generator.state.wrapping_add(join(words[0], words[1]));
        generator.step();
        generator
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    fn next_u64(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let next = self.next_u64();
        self.half = Some((next >> 32) as u32);
        next as u32
    }

    /// A number below `n`, one draw of `choice(n, ..., replace=True)`.
    pub fn below(&mut self, n: u32) -> u32 {
        if n <= 1 {
            return 0;
        }
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// The draws of one call of `integers(2, ..., dtype=bool)`: 32 of each number, from its lowest bit.
    pub fn bits(&mut self) -> Bits<'_> {
        Bits { generator: self, buffer: 0, left: 0 }
    }
}

/// Single bits from a generator.
pub struct Bits<'g> {
    generator: &'g mut Generator,
    buffer: u32,
    left: u32,
}

impl Bits<'_> {
    /// The next bit.
    pub fn next_bit(&mut self) -> bool {
        if self.left == 0 {
            self.buffer = self.generator.next_u32();
            self.left = 32;
        } else {
            self.buffer >>= 1;
        }
        self.left -= 1;
        self.buffer & 1 == 1
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`.
fn seed_words(seed: u64) -> [u64; 4] {
    let mut entropy = vec![seed as u32];
    if seed >> 32 != 0 {
        entropy.push((seed >> 32) as u32);
    }
    let mut constant = 0x43b0_d7e5u32;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(constant);
        value ^ value >> 16
    };
    let mut pool = [0; POOL_SIZE];
    for (index, word) in pool.iter_mut().enumerate() {
        *word = hash(entropy.get(index).copied().unwrap_or(0));
    }
    for source in 0..POOL_SIZE {
        for target in (0..POOL_SIZE).filter(|target| *target != source) {
            let mixed = 0xca01_f9ddu32
                .wrapping_mul(pool[target])
                .wrapping_sub(0x4973_f715u32.wrapping_mul(hash(pool[source])));
            pool[target] = mixed ^ mixed >> 16;
        }
    }
    let mut constant = 0x8b51_f9ddu32;
    let mut state = (0..2 * POOL_SIZE).map(|index| {
        let value = pool[index % POOL_SIZE] ^ constant;
        constant = constant.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(constant);
        u64::from(value ^ value >> 16)
    });
    [(); 4].map(|()| {
        let (low, high) = (state.next(), state.next());
        low.zip(high).map_or(0, |(low, high)| high << 32 | low)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // numpy 2.4.6: r = default_rng(s); r.choice(n, 8); then a fresh r.integers(2, size=40, dtype=bool)
    #[test]
    fn draws_equal_numpys() {
        let draws = |seed: u64, n: u32| {
            let mut generator = Generator::new(seed);
            [(); 8].map(|()| generator.below(n))
        };
        assert_eq!(draws(12345, 10), [6, 2, 7, 3, 2, 7, 6, 6]);
        assert_eq!(draws(0, 1000), [850, 636, 511, 269, 307, 40, 75, 16]);
        let wide =
            [2767366916, 1082428719, 2985688072, 473165107, 1846999609, 2071031649, 1311580582, 2818109612];
        assert_eq!(draws(1 << 40, 3_000_000_000), wide);
        let mut generator = Generator::new(12345);
        let mut bits = generator.bits();
        let bits: String = (0..40).map(|_| if bits.next_bit() { '1' } else { '0' }).collect();
        assert_eq!(bits, "1011100110000011111111110100110110110001");
    }
}
