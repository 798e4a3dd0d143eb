//! The modules of a crate and what each imports, read from its source text.
//!
//! A module imports another when its `use` lines or its paths (`crate::`, `super::`, `self::`, or one of its own
//! modules) lead into it. Tests are left out, and so are a module's ancestors: a child may use what its parent holds.

use std::collections::{BTreeMap, BTreeSet};

/// Path of a module below its crate; empty for the crate itself.
type ModulePath = Vec<String>;

/// The imports between the modules of one crate.
#[derive(Debug, Default)]
pub struct ModuleGraph {
    imports: BTreeMap<ModulePath, BTreeSet<ModulePath>>,
}

impl ModuleGraph {
    /// Reads the graph from the files of a crate: for each its path below `src`, and its text.
    pub fn from_sources<'a>(sources: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let texts: BTreeMap<ModulePath, String> = sources
            .into_iter()
            .map(|(path, text)| (module_path(path), code_of(text)))
            .filter(|(module, _)| !module.iter().any(|part| part == "tests"))
            .collect();
        let imports_of = |(module, text): (&ModulePath, &String)| {
            let named = use_paths(text).into_iter().chain(inline_paths(text));
            let imported = named.filter_map(|path| resolve(module, &path, &texts));
            (module.clone(), imported.filter(|other| !module.starts_with(other)).collect())
        };
        Self { imports: texts.iter().map(imports_of).collect() }
    }

    /// Returns the number of modules.
    pub fn module_count(&self) -> usize {
        self.imports.len()
    }

    /// Returns one shortest circle through each module that is in one, each circle once: `a → b → a`.
    pub fn circles(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for module in self.imports.keys() {
            let Some(circle) = self.shortest_circle(module).filter(|_| !seen.contains(module)) else { continue };
            seen.extend(circle.iter().cloned());
            let names: Vec<String> = circle.iter().chain([module]).map(|module| module.join("::")).collect();
            found.insert(names.join(" → "));
        }
        found
    }

    /// Returns the modules of the shortest circle that begins at `start`.
    fn shortest_circle(&self, start: &ModulePath) -> Option<Vec<ModulePath>> {
        let mut visited = BTreeSet::new();
        let mut walks = vec![vec![start.clone()]];
        while !walks.is_empty() {
            let mut longer = Vec::new();
            for walk in walks {
                for next in self.imports.get(walk.last()?).into_iter().flatten() {
                    if next == start {
                        return Some(walk);
                    }
                    if visited.insert(next.clone()) {
                        longer.push(walk.iter().chain([next]).cloned().collect());
                    }
                }
            }
            walks = longer;
        }
        None
    }
}

fn module_path(file: &str) -> ModulePath {
    let path = file.trim_end_matches(".rs");
    path.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(str::to_owned).collect()
}

/// Returns a file's text without comments and its tests.
fn code_of(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the module into which a path leads; `None` for a path out of the crate.
fn resolve(from: &ModulePath, path: &[String], modules: &BTreeMap<ModulePath, String>) -> Option<ModulePath> {
    let mut names = path.iter().peekable();
    let mut module = match names.peek()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => from.clone(),
        _ => {
            // Another crate, unless it is a child.
            let child: ModulePath = from.iter().chain(path.first()).cloned().collect();
            return modules.contains_key(&child).then_some(child);
        }
    };
    while let Some(name) = names.next_if(|name| matches!(name.as_str(), "crate" | "self" | "super")) {
        if name == "super" {
            module.pop()?;
        }
    }
    for name in names {
        module.push(name.clone());
        if !modules.contains_key(&module) {
            module.pop();
            break;
        }
    }
    Some(module)
}

/// Returns the paths of all `use` declarations.
fn use_paths(code: &str) -> Vec<Vec<String>> {
    let declarations = code.split(';').filter_map(|statement| {
        let at = statement.rfind("use ")?;
        let begins = statement[..at].lines().last().unwrap_or_default().trim();
        (begins.is_empty() || begins.starts_with("pub")).then(|| &statement[at + "use ".len()..])
    });
    let mut paths = Vec::new();
    for tree in declarations {
        expand_use_tree(tree, &[], &mut paths);
    }
    paths
}

/// Adds the paths of a `use` tree, such as `a::{b, c::{d, e}}`.
fn expand_use_tree(tree: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut depth = 0;
    let branches = tree.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for branch in branches.map(str::trim).filter(|branch| !branch.is_empty()) {
        let (head, inner) = branch.split_once('{').unwrap_or((branch, ""));
        let names = head.split(" as ").next().unwrap_or_default().split("::").map(str::trim);
        let path: Vec<String> =
            prefix.iter().cloned().chain(names.filter(|name| !name.is_empty()).map(str::to_owned)).collect();
        match inner.rsplit_once('}') {
            Some((inner, _)) => expand_use_tree(inner, &path, paths),
            None => paths.push(path),
        }
    }
}

/// Returns the paths in expressions and types that begin at the crate or a relative of the module.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_path(c)).filter(|word| word.contains("::"));
    words.map(|word| word.split("::").map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(sources: &[(&str, &str)]) -> Vec<String> {
        ModuleGraph::from_sources(sources.iter().copied()).circles().into_iter().collect()
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let root = ("lib.rs", "mod a;\nmod b;");
        for (a, b) in [
            ("use super::b::B;", "use crate::a::A;"),
            ("pub(crate) use crate::{\n    b::{self, B},\n};", "fn f() { crate::a::g() }"),
            ("struct A(super::b::B);", "use super::{a as other};"),
        ] {
            assert_eq!(circles(&[root, ("a.rs", a), ("b.rs", b)]), ["a → b → a"], "{a} {b}");
        }
        let three = [("a.rs", "use crate::b;"), ("b.rs", "use crate::c;"), ("c.rs", "use crate::a;")];
        assert_eq!(circles(&three), ["a → b → c → a"]);
        let family =
            [("a.rs", "mod c;\nuse self::c::C;"), ("a/c.rs", "use crate::b::B;"), ("b.rs", "use crate::a::A;")];
        assert_eq!(circles(&family), ["a → a::c → b → a"]);
    }

    #[test]
    fn what_is_no_circle_is_none() {
        for (a, b) in [
            ("use super::b::B;", "use crate::c::C;"),
            ("use super::b::B;", "// use crate::a::A;\nlet text = used(a);"),
            ("use super::b::B;", "struct B;\n\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}"),
            ("mod b;\nuse b::B;", "use other::a::A;"),
        ] {
            assert_eq!(circles(&[("a.rs", a), ("b.rs", b), ("c.rs", "")]), [""; 0], "{a} {b}");
        }
        assert_eq!(circles(&[("a.rs", "mod c;\nuse c::C;"), ("a/c.rs", "use super::A;")]), [""; 0], "an ancestor");
    }
}
