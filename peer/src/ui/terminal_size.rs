//! The size of the terminal.

use ratatui_core::layout::Size;

/// Returns the terminal's size; 80 × 24 where there is none, or where, as on serial consoles, it is 0.
pub(super) fn terminal_size() -> Size {
    let or = |size: u16, usual: u16| if size == 0 { usual } else { size };
    // Not `size`, which starts `tput` twice where there is no terminal: that takes longer than to fetch a small file.
    crossterm::terminal::window_size()
        .map_or(Size::new(80, 24), |size| Size::new(or(size.columns, 80), or(size.rows, 24)))
}
