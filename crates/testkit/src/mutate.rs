//! Broken copies of good files, for tests that feed them to a reader: it must return an error or a value, never panic, never allocate far
//! beyond the size of the file.
//!
//! The copies depend on nothing but the bytes and a number, so a failing one can be made again from the number that the test prints.

use std::path::Path;

/// A copy of `bytes` with one fault, chosen by `seed`: cut short, lengthened, bytes overwritten with random or extreme values, a bit flipped, a
/// stretch removed or repeated. Half of the faults lie in the first 512 bytes, where formats keep their sizes and offsets.
///
/// Never equal to `bytes`, except that of an empty input it may give an empty copy.
pub fn mutated(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = SplitMix(seed);
    let mut copy = bytes.to_vec();
    if bytes.is_empty() {
        copy.resize(random.below(16), 0xFF);
        return copy;
    }
    // A fault may by chance write what was there; the next draws then try again.
    while copy == bytes {
        let reach = if random.below(2) == 0 { bytes.len().min(512) } else { bytes.len() };
        let at = random.below(reach);
        match random.below(7) {
            0 => copy.truncate(at),
            1 => copy.extend((0..=random.below(64)).map(|i| i as u8)),
            2 => copy[at] ^= 1 << random.below(8),
            3 => copy[at] = random.next() as u8,
            4 => overwrite(&mut copy, at, &EXTREMES[random.below(EXTREMES.len())].to_le_bytes()),
            5 => drop(copy.drain(at..(at + 1 + random.below(32)).min(bytes.len()))),
            _ => {
                let end = (at + 1 + random.below(32)).min(bytes.len());
                let again = copy[at..end].to_vec();
                copy.splice(at..at, again);
            }
        }
    }
    copy
}

/// A copy of `bytes` with `with` written over what stands at `at`; what would lie beyond the end is left out.
pub fn overwritten(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    overwrite(&mut copy, at, with);
    copy
}

/// Writes [`mutated`] bytes of the file `from` to `to`.
///
/// # Errors
/// What reading or writing gave, with the path.
pub fn write_mutated(from: &Path, to: &Path, seed: u64) -> std::io::Result<()> {
    fs_err::write(to, mutated(&fs_err::read(from)?, seed))
}

/// Sizes that overflow when they are added, multiplied or cast.
const EXTREMES: [u64; 8] =
    [0, 1, u64::MAX, i64::MAX as u64, 1 << 63, u32::MAX as u64, 1 << 40, (1 << 62) + 1];

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (to, &from) in bytes.iter_mut().skip(at).zip(with) {
        *to = from;
    }
}

/// Steele, Lea and Flood's SplitMix64: enough for picking faults, and no dependency.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn copies_differ_from_the_original_and_repeat_for_a_seed() {
        let bytes: Vec<u8> = (0..2000).map(|i| (i * 7) as u8).collect();
        let copies: Vec<_> = (0..300).map(|seed| mutated(&bytes, seed)).collect();
        for (seed, copy) in copies.iter().enumerate() {
            assert_ne!(copy, &bytes);
            assert_eq!(copy, &mutated(&bytes, seed as u64));
        }
        assert!(copies.iter().collect::<HashSet<_>>().len() > 250, "faults are varied");
        assert!(copies.iter().any(|c| c.len() < 2000) && copies.iter().any(|c| c.len() > 2000));
    }

    #[test]
    fn degenerate_files_are_handled() {
        for seed in 0..200 {
            assert!(mutated(&[], seed).len() < 16);
            assert_ne!(mutated(&[0], seed), [0]);
            assert_ne!(mutated(&[0; 40], seed), [0; 40], "runs of one value");
        }
    }

    #[test]
    fn overwriting_stops_at_the_end() {
        assert_eq!(overwritten(&[1, 2, 3], 1, &[9]), [1, 9, 3]);
        assert_eq!(overwritten(&[1, 2, 3], 2, &[9, 8]), [1, 2, 9]);
        assert_eq!(overwritten(&[1, 2, 3], 7, &[9]), [1, 2, 3]);
    }

    #[test]
    fn a_mutated_file_is_written_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("good"), folder.path().join("bad"));
        fs_err::write(&from, [5; 100]).unwrap();
        write_mutated(&from, &to, 3).unwrap();
        assert_eq!(fs_err::read(&to).unwrap(), mutated(&[5; 100], 3));
        assert_eq!(fs_err::read(&from).unwrap(), [5; 100]);
    }
}
