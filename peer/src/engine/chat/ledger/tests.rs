//! Tests of what decides.
