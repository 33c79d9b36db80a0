//! Numbers for people.

use std::time::Duration;

/// `12,345`
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 MB`, in powers of ten.
pub fn bytes(number: usize) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.decimals$} {}", units[unit])
}

/// `850 ms`, `4.2 s`, `3 min 05 s`, `2 h 03 min`
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        match whole {
            ..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
            _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
        }
    }
}

/// So many a second: whole above 100.
pub fn rate(number: f64) -> String {
    if number >= 100.0 { count(number.round() as usize) } else { format!("{number:.1}") }
}

/// A score as papers print it: two decimals, four below 1.
pub fn score(value: f64) -> String {
    if value.abs() < 1.0 { format!("{value:.4}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded_across_unit_borders() {
        let counts = [0, 999, 1000, 1234567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 999, 1000, 99_949, 99_950, 999_499, 999_500].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB"]);
        let times = [0.85, 0.9996, 59.94, 59.96, 125.0, 7380.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(times, ["850 ms", "1.0 s", "59.9 s", "1 min 00 s", "2 min 05 s", "2 h 03 min"]);
        assert_eq!([12.34, 1234.6].map(rate), ["12.3", "1,235"]);
        assert_eq!([0.44696, 65.93].map(score), ["0.4470", "65.93"]);
    }
}
