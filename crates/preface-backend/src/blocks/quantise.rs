//! Numbers to blocks, as the `gguf` Python package makes them: the scale in `f32` divides, its half is what is stored.

use half::f16;

/// `d = max |x| / 127`, `q = round(x / d)`, halves away from zero.
pub fn q8_0(values: &[f32]) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<32>();
    assert!(rest.is_empty(), "Q8_0: {} values are no whole number of blocks", values.len());
    let mut bytes = Vec::with_capacity(34 * blocks.len());
    for block in blocks {
        let d = block.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        bytes.extend(f16::from_f32(d).to_le_bytes());
        bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
    }
    bytes
}

/// `d = x_max / -8` with `x_max` the element of the largest magnitude, so that it becomes the number -8 exactly;
/// `q = floor(x / d + 8.5)`, at most 15.
pub fn q4_0(values: &[f32]) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<32>();
    assert!(rest.is_empty(), "Q4_0: {} values are no whole number of blocks", values.len());
    let mut bytes = Vec::with_capacity(18 * blocks.len());
    for block in blocks {
        let largest = block.iter().fold(0.0f32, |most, x| if x.abs() > most.abs() { *x } else { most });
        let d = largest / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let number = |x: f32| (x * inverse + 8.5).floor().clamp(0.0, 15.0) as u8;
        bytes.extend(f16::from_f32(d).to_le_bytes());
        bytes.extend((0..16).map(|i| number(block[i]) | number(block[i + 16]) << 4));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use crate::{BlockFormat, BlockMatrix, HostMatrix};

    fn matrix(values: Vec<f32>) -> HostMatrix {
        HostMatrix { n_row: 1, n_column: values.len(), values }
    }

    #[test]
    fn what_blocks_can_hold_comes_back_unchanged() {
        let eighths: Vec<f32> = (0..64).map(|i| if i == 5 { -127.0 } else { i as f32 } * 0.125).collect();
        let in_eight_bits: Vec<f32> =
            eighths.chunks(32).flat_map(|block| [&block[..31], &[-127.0 * 0.125]].concat()).collect();
        let back = BlockMatrix::quantise(BlockFormat::Q8_0, &matrix(in_eight_bits.clone())).decode();
        assert_eq!(back, in_eight_bits);
        let quarters: Vec<f32> = (0..32).map(|i| (i % 16) as f32 * 0.25 - 2.0).collect();
        assert_eq!(BlockMatrix::quantise(BlockFormat::Q4_0, &matrix(quarters.clone())).decode(), quarters);
    }

    #[test]
    fn zeros_stay_zero_and_others_lie_within_half_a_step() {
        let values: Vec<f32> =
            (0..96).map(|i| if i < 32 { 0.0 } else { ((i * 37) % 61) as f32 - 30.0 }).collect();
        for (format, steps) in [(BlockFormat::Q8_0, 127.0), (BlockFormat::Q4_0, 8.0)] {
            let back = BlockMatrix::quantise(format, &matrix(values.clone())).decode();
            assert!(back[..32].iter().all(|x| *x == 0.0));
            for (back, value) in back.iter().zip(&values) {
                // A half step, or a whole one at the end that 4 bits lack, and the rounding of the scale.
                let allowed = 30.0 / steps * if steps < 10.0 { 1.0 } else { 0.5 } * 1.01;
                assert!((back - value).abs() <= allowed, "{format:?}: {value} became {back}");
            }
        }
    }
}
