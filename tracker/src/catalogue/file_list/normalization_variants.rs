//! The other Unicode normalizations of a file's name.

use shared::names::{to_nfc, to_nfd};

/// Returns the other Unicode normalizations of a name, each component by itself. Beyond a few combinations, only the
/// names with all components in the same form are returned.
pub(super) fn normalization_variants(name: &str) -> Vec<String> {
    const LOOKED_UP: usize = 32;
    // ASCII text is the same in every normal form.
    if name.is_ascii() {
        return Vec::new();
    }
    let mut forms = vec![String::new()];
    for component in name.split('/') {
        let both = [to_nfc(component), to_nfd(component)];
        let tried = if both[0] != both[1] && forms.len() < LOOKED_UP { &both[..] } else { &both[..1] };
        let mut longer = Vec::with_capacity(forms.len() * tried.len());
        for form in &forms {
            let slash = if form.is_empty() { "" } else { "/" };
            longer.extend(tried.iter().map(|component| format!("{form}{slash}{component}")));
        }
        forms = longer;
    }
    // Beyond the limit components keep their composed form, so the decomposed whole is added.
    forms.push(to_nfd(name).into_owned());
    forms.retain(|form| form != name);
    forms.sort_unstable();
    forms.dedup();
    forms
}
