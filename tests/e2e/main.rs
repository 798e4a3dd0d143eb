//! The real binaries, end to end. One test binary: it links once and runs its tests side by side.

mod smoke;
