//! What bars look like, and from where they count.

use indicatif::{ProgressBar, ProgressStyle};

/// What fits the terminal's width, down to 20 columns.
pub(super) fn style(is_total: bool) -> ProgressStyle {
    let template = match columns() {
        110.. => {
            "{prefix:30!} {wide_bar} {decimal_bytes:>10}/{decimal_total_bytes:>10} {decimal_bytes_per_sec:>13} {eta:>5} {msg:16!}"
        }
        70.. => "{prefix:18!} {wide_bar} {percent:>3}% {decimal_bytes_per_sec:>13} {eta:>4} {msg:14!}",
        60.. => "{prefix:20!} {wide_bar} {percent:>3}% {decimal_bytes_per_sec:>13} {eta:>4}",
        40.. => "{prefix:14!} {percent:>3}% {decimal_bytes_per_sec:>12} {eta:>4}",
        20.. => "{prefix:12!} {percent:>3}%",
        _ => "{percent:>3}%",
    };
    styled(template, is_total)
}

/// The same for a file that is there: how fast it came isn't known to a bar that began in the middle.
pub(super) fn done_style() -> ProgressStyle {
    let template = match columns() {
        110.. => "{prefix:30!} {wide_bar} {decimal_total_bytes:>21}                     {msg:16!}",
        70.. => "{prefix:18!} {wide_bar} {percent:>3}% {decimal_total_bytes:>13}      {msg:14!}",
        60.. => "{prefix:20!} {wide_bar} {percent:>3}% {decimal_total_bytes:>13}     ",
        40.. => "{prefix:14!} {percent:>3}% {decimal_total_bytes:>12}     ",
        20.. => "{prefix:12!} {percent:>3}%",
        _ => "{percent:>3}%",
    };
    styled(template, false)
}

/// What was there before is nothing that came now: speed and time left are counted from here.
pub(super) fn begin_here(bar: &ProgressBar) {
    // It takes the position it was given into account only when it is drawn.
    bar.tick();
    bar.reset_eta();
    bar.reset_elapsed();
}

fn styled(template: &str, is_total: bool) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars(if is_total { "=> " } else { "━╸ " })
}

fn columns() -> u16 {
    crossterm::terminal::size().map_or(80, |(columns, _)| columns)
}
