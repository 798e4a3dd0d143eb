//! Formatting of sizes for the user.

use std::time::Duration;

use localization::current_language;

/// Returns `1.23 MB` for `1234567` (in Portuguese `1,23 MB`): three digits, rounded, in powers of ten as file managers and networks count.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Exabytes times a hundred exceed 64 bits.
    let bytes = u128::from(bytes);
    let mut scale = 1000_u128;
    let mut last = String::new();
    for unit in UNITS {
        for decimals in [2_usize, 1, 0] {
            let parts = [1, 10, 100][decimals];
            let rounded = (bytes * parts + scale / 2) / scale;
            // Rounding may add a digit: 999.6 kB are 1.00 MB.
            if rounded < 1000 {
                let (whole, rest) = (rounded / parts, rounded % parts);
                return match decimals {
                    0 => format!("{whole} {unit}"),
                    _ => format!("{whole}{}{rest:0decimals$} {unit}", current_language().decimal_mark()),
                };
            }
            last = format!("{rounded} {unit}");
        }
        scale *= 1000;
    }
    last
}

/// Returns a rate for people.
pub fn transfer_rate(bytes: u64, time: Duration) -> String {
    let micros = time.as_micros().max(1);
    // In 128 bits: a million times the bytes may overflow 64.
    let per_second = u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX);
    format!("{}/s", format_size(per_second))
}
