//! Where the user wrote a value: the line of a file, or a flag.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::schema::{Part, Path};
use crate::values::{self, Step};
use crate::yaml;

/// The user's input, by place.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    /// Weakest first.
    files: Vec<(&'a str, Lines)>,
    /// Weakest first; all are stronger than files.
    settings: Vec<(&'a str, Vec<Step>)>,
}

impl<'a> Origin<'a> {
    /// Reads files and `--set`s; what cannot be read has no places.
    pub(crate) fn read(files: &'a [(String, String)], settings: &'a [String]) -> Self {
        let files = files
            .iter()
            .filter_map(|(name, text)| Some((name.as_str(), yaml::lines(text)?)));
        let settings = settings.iter().filter_map(|setting| {
            let path = setting.split_once('=').map_or(setting.as_str(), |(path, _)| path);
            Some((setting.as_str(), values::path(&format!("spec.{path}")).ok()?))
        });
        Self {
            files: files.collect(),
            settings: settings.collect(),
        }
    }

    /// The strongest place that writes the value at a path: `mesh.yaml:7` or `--set a.b=c`.
    pub(crate) fn of(&self, path: &Path) -> Option<String> {
        let parts = path.parts();
        let set = self.settings.iter().rev().find(|(_, steps)| agree(steps, parts));
        if let Some((setting, _)) = set {
            return Some(format!("--set {setting}"));
        }
        let mut files = self.files.iter().rev();
        files.find_map(|(name, lines)| Some(format!("{name}:{}", lines.of(parts)?)))
    }
}

/// Does a setting write at the path, above it or below it?
fn agree(steps: &[Step], parts: &[Part]) -> bool {
    steps.iter().zip(parts).all(|(step, part)| match (step, part) {
        (Step::Field(name), Part::Key(key)) => name == key,
        (Step::Index(a), Part::Index(b)) => a == b,
        // A selector names an item by what is in it.
        (Step::Match(..) | Step::Item(_), Part::Index(_)) => true,
        _ => false,
    })
}

/// The lines of a document: a tree as deep as the document.
#[derive(Debug)]
pub(crate) enum Lines {
    /// Fields with the line of their name.
    Map(Vec<(String, u64, Lines)>),
    /// Items with their line.
    List(Vec<(u64, Lines)>),
    /// A single value.
    Leaf,
}

impl Lines {
    fn of(&self, parts: &[Part]) -> Option<u64> {
        let (first, rest) = parts.split_first()?;
        let (line, below) = match (self, first) {
            (Self::Map(fields), Part::Key(key)) => {
                let (_, line, below) = fields.iter().find(|(name, ..)| name == key)?;
                (*line, below)
            }
            (Self::List(items), Part::Index(index)) => {
                let (line, below) = items.get(*index)?;
                (*line, below)
            }
            _ => return None,
        };
        if rest.is_empty() { Some(line) } else { below.of(rest) }
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Lines;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lines, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            let line = name.referenced.line();
            fields.push((name.value, line, map.next_value()?));
        }
        Ok(Lines::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lines, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Lines>>()? {
            items.push((item.referenced.line(), item.value));
        }
        Ok(Lines::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }

    fn visit_none<E>(self) -> Result<Lines, E> {
        Ok(Lines::Leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: Path, expected: Option<&str>) {
        let weak = "# ours\n---\nspec:\n  profile: demo\n  components:\n    ingressGateways:\n    - name: a\n    - {name: b,\n       k8s: {env: []}}\n";
        let strong = "spec:\n  profile: minimal\n";
        let files = [
            ("a.yaml".to_owned(), weak.to_owned()),
            ("b.yaml".to_owned(), strong.to_owned()),
        ];
        let settings = ["values.pilot.env.A=b".to_owned()];
        assert_eq!(Origin::read(&files, &settings).of(&path).as_deref(), expected);
    }

    #[test]
    fn the_strongest_place_is_named() {
        check(Path::of(&["spec", "profile"]), Some("b.yaml:2"));
        check(Path::of(&["spec", "components"]), Some("a.yaml:5"));
        let gateways = Path::of(&["spec", "components", "ingressGateways"]);
        check(gateways.item(1).field("name"), Some("a.yaml:8"));
        check(gateways.item(1).field("k8s").field("env"), Some("a.yaml:9"));
        check(gateways.item(2), None);
        check(
            Path::of(&["spec", "values", "pilot", "env", "A"]),
            Some("--set values.pilot.env.A=b"),
        );
        check(Path::of(&["spec", "values", "global"]), None);
    }
}
