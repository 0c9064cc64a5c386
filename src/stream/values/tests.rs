//! Paths as they come and go: what they find against a simple search, what work they make, and what memory they take.

use std::fmt::Display;

use allocation_counter::measure;
use proptest::prelude::*;

use super::*;
use crate::config::filter::Name;

/// A JSON document with members in order, of which some may be repeated.
#[derive(Clone, Debug)]
enum Document {
    Scalar(u8),
    Object(Vec<(String, Document)>),
    Array(Vec<Document>),
}

impl Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, texts: Vec<String>| f.write_str(&texts.join(","));
        match self {
            Self::Scalar(number) => write!(f, "\"s{number}\""),
            Self::Object(members) => {
                let members = members.iter();
                f.write_str("{")?;
                list(
                    f,
                    members
                        .map(|(name, value)| format!("\"{name}\":{value}"))
                        .collect(),
                )?;
                f.write_str("}")
            }
            Self::Array(elements) => {
                f.write_str("[")?;
                list(f, elements.iter().map(ToString::to_string).collect())?;
                f.write_str("]")
            }
        }
    }
}

impl Document {
    fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Scalar(_) => None,
            Self::Object(members) => {
                let mut members = members.iter().rev();
                members.find(|(other, _)| other == name).map(|(_, value)| value)
            }
            Self::Array(elements) => {
                let index: usize = name.parse().ok()?;
                elements.get(index).filter(|_| index.to_string() == name)
            }
        }
    }

    /// By the words of the documentation: the whole rest as one name, if it is a scalar, then the next name.
    fn find(&self, path: &[String]) -> Option<String> {
        if let Some(Self::Scalar(number)) = self.get(&path.join(".")) {
            return Some(format!("s{number}"));
        }
        match path {
            [name, rest @ ..] if !rest.is_empty() => self.get(name)?.find(rest),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Add(Vec<String>),
    Remove(prop::sample::Index),
    Tidy,
    Look(Document),
}

/// More names than are compared one by one, some with dots, some that are indices or look like them.
fn name() -> impl Strategy<Value = String> {
    const ALL: [&str; 17] = [
        "a", "b", "a", "b", "a.b", "b.a", "a.a.b", "0", "1", "0.1", "01", "c", "d", "e", "f", "g", "h",
    ];
    prop::sample::select(&ALL[..]).prop_map(str::to_owned)
}

fn op() -> impl Strategy<Value = Op> {
    let document = any::<u8>()
        .prop_map(Document::Scalar)
        .prop_recursive(4, 40, 8, |inner| {
            prop_oneof![
                3 => prop::collection::vec((name(), inner.clone()), 0..8).prop_map(Document::Object),
                1 => prop::collection::vec(inner, 0..3).prop_map(Document::Array),
            ]
        });
    prop_oneof![
        6 => prop::collection::vec(name(), 1..5).prop_map(Op::Add),
        4 => any::<prop::sample::Index>().prop_map(Op::Remove),
        1 => Just(Op::Tidy),
        4 => document.prop_map(Op::Look),
    ]
}

#[test]
fn added_and_removed_paths_match_like_a_linear_search() {
    let cases = ProptestConfig {
        cases: 2000,
        ..ProptestConfig::default()
    };
    proptest!(cases, |(ops in prop::collection::vec(op(), 1..60))| {
        let (mut paths, mut known, mut next) = (Paths::default(), Vec::new(), 0);
        for op in &ops {
            match op {
                Op::Add(path) => {
                    paths.insert(next, path);
                    known.push((next, path.clone()));
                    next += 1;
                }
                Op::Remove(_) if known.is_empty() => {}
                Op::Remove(index) => paths.remove(known.swap_remove(index.index(known.len())).0),
                Op::Tidy => paths.tidy(),
                Op::Look(document) => look(&paths, &known, document)?,
            }
            prop_assert_eq!(paths.is_empty(), known.is_empty());
        }
        for (slot, _) in known {
            paths.remove(slot);
        }
        prop_assert_eq!((paths.used_bytes(), paths.bytes()), (0, 0));
    });
}

fn look(paths: &Paths, known: &[(Slot, Vec<String>)], document: &Document) -> Result<(), TestCaseError> {
    let text = document.to_string();
    let mut found = Found::default();
    // Earlier results do not remain.
    found.look_up(paths, "{\"a\":{\"b\":1,\"a\":{\"b\":[2]}},\"b\":3,\"0\":4}");
    found.look_up(paths, &text);
    let mut wanted: Vec<(Slot, String)> = known
        .iter()
        .filter_map(|(slot, path)| Some((*slot, document.find(path)?)))
        .collect();
    wanted.sort_unstable();
    let values: Vec<(Slot, String)> = found
        .values(1)
        .iter()
        .map(|(slot, text)| (slot, text.to_owned()))
        .collect();
    prop_assert_eq!(&values, &wanted, "{}", text);
    for (slot, _) in known {
        let place = wanted.iter().find(|(other, _)| other == slot);
        prop_assert_eq!(found.values(1).get(*slot), place.map(|(_, text)| text.as_str()));
    }
    Ok(())
}

const NAMES: usize = 31;

/// A path as long as a request line of 2 KiB allows, which differs from the others only at its end.
fn long(number: usize) -> Vec<String> {
    let mut path = vec!["n".repeat(58); NAMES];
    path.push(format!("b{number:03}"));
    path
}

fn slot(number: usize) -> Slot {
    number as Slot
}

fn long_paths(count: usize) -> Paths {
    let mut paths = Paths::default();
    for number in 0..count {
        paths.insert(slot(number), &long(number));
    }
    paths
}

#[test]
fn the_cost_of_a_path_depends_on_its_length_alone() {
    // The same text, with other dots as parts of names.
    let escaped = |number: usize| -> Vec<String> {
        let mut path = vec![String::from("x")];
        for bit in 0..10 {
            if number >> bit & 1 == 1 {
                path.push(String::from("x"));
            } else if let Some(last) = path.last_mut() {
                last.push_str(".x");
            }
        }
        path
    };
    let cost = |paths: &mut Paths, path: &[String]| {
        let before = paths.work();
        paths.insert(Slot::MAX, path);
        paths.remove(Slot::MAX);
        paths.work() - before
    };
    for count in [1, 10, 100, 990] {
        let mut paths = long_paths(count);
        for number in 0..count {
            paths.insert(slot(2000 + number), &escaped(number));
            paths.insert(slot(4000 + number), &[format!("z{number}")]);
        }
        for path in [
            long(1500),
            escaped(1023),
            vec![String::from("new")],
            vec![String::from("z"), String::from("y")],
        ] {
            let work = cost(&mut paths, &path);
            // To add and to remove: the rest and the name at each of its names are hashed, and found at once.
            let bound = 8 * path.len() as u64 + 8;
            assert!(
                work <= bound,
                "{work} names for one of {} beside {count}",
                path.len()
            );
        }
        // Nothing is rebuilt for it.
        let before = paths.work();
        paths.tidy();
        assert_eq!(paths.work(), before);
    }
}

#[test]
fn the_path_trie_counts_its_bytes() {
    const COUNT: usize = 990;
    let held = |paths: &mut Option<Paths>, act: &mut dyn FnMut(&mut Paths)| {
        let mut taken = paths.take().expect("paths");
        let info = measure(|| act(&mut taken));
        *paths = Some(taken);
        info.bytes_current
    };
    let mut paths = Some(Paths::default());
    let mut resident = 0;
    let mut check = |paths: &mut Option<Paths>, act: &mut dyn FnMut(&mut Paths)| {
        resident += held(paths, act);
        let counted = i64::try_from(paths.as_ref().expect("paths").bytes()).expect("small");
        assert!(
            resident <= counted + counted / 10 + 4096 && counted <= resident + resident / 5 + 4096,
            "{resident} bytes are allocated, {counted} counted"
        );
        counted
    };
    let added = check(&mut paths, &mut |paths| {
        for number in 0..COUNT {
            paths.insert(slot(number), &long(number));
        }
    });
    let (used, held) = {
        let paths = paths.as_ref().expect("paths");
        (paths.used_bytes(), paths.bytes())
    };
    assert!(
        held <= used + used / 2,
        "{held} bytes are held where {used} are used"
    );
    assert!(used <= Paths::most_bytes(&long(0)) * COUNT);
    // A text once, not once for every rest of it: that would be sixteen times as much.
    let text: usize = long(0).iter().map(|name| name.len() + 1).sum();
    let each = usize::try_from(added).expect("positive") / COUNT;
    assert!(each < text * 3, "{each} bytes for a path of {text}");
    check(&mut paths, &mut |paths| {
        for number in 10..COUNT {
            paths.remove(slot(number));
        }
    });
    let few = check(&mut paths, &mut Paths::tidy);
    assert!(few < added / 20, "{few} bytes of {added} for one in 99");
    let none = check(&mut paths, &mut |paths| {
        for number in 0..10 {
            paths.remove(slot(number));
        }
    });
    assert_eq!(none, 0);
}

#[test]
fn a_repeated_member_is_stored_once_for_all_paths() {
    const NAMES: usize = 200;
    const MEMBERS: usize = 40_000;
    // Five hundred paths that are one name, written as one or as several.
    let written = |number: usize| -> Vec<String> {
        let mut path = vec![String::from("x")];
        for bit in 0..9 {
            if number >> bit & 1 == 1 {
                path.push(String::from("x"));
            } else if let Some(last) = path.last_mut() {
                last.push_str(".x");
            }
        }
        path
    };
    let mut paths = Paths::new([]);
    for number in 0..512 {
        paths.insert(slot(number), &written(number));
    }
    for number in 0..NAMES {
        paths.insert(slot(1000 + number), &[format!("p{number}")]);
    }
    let name = ["x"; 10].join(".");
    let members: Vec<String> = (0..MEMBERS)
        .map(|number| format!("\"{name}\":{number},\"p{}\":{number}", number % NAMES))
        .collect();
    let json = format!("{{{}}}", members.join(","));
    let mut found = Found::default();
    let held = measure(|| found.look_up(&paths, &json)).bytes_max;
    assert_eq!(found.values(0).iter().count(), 512 + NAMES);
    let last = (MEMBERS - 1).to_string();
    assert!((0..512).all(|number| found.values(0).get(slot(number)) == Some(last.as_str())));
    for number in 0..NAMES {
        let last = (MEMBERS - NAMES + number).to_string();
        assert_eq!(found.values(0).get(slot(1000 + number)), Some(last.as_str()));
    }
    // Not five hundred values for each member.
    let most = json.len() as u64 * 10;
    assert!(held <= most, "{held} bytes for a value of {}", json.len());
}

/// A path looked up alone, beside many others, and after others have gone finds the same.
#[test]
fn paths_match_together_as_each_does_alone() {
    let document = r#"{"a":1,"a":{"b":[7,{"c":"x"}],"b.1.c":"y"},"d":{"e":{"f":null}},"d.e":5,"g":"s"}"#;
    let paths = [
        "a",
        "a.b.0",
        "a.b.1.c",
        "d.e",
        "d.e.f",
        "g",
        "g.h",
        "missing",
        r"a.b\.1\.c",
    ];
    let wanted = [
        None,
        Some("7"),
        Some("y"),
        Some("5"),
        Some("null"),
        Some("s"),
        None,
        None,
        Some("y"),
    ];
    let path = |text: &str| match Name::parse(&format!("value.{text}")) {
        Ok(Some(Name::Value(path))) => path,
        other => panic!("{other:?}"),
    };
    let parsed: Vec<Vec<String>> = paths.iter().map(|text| path(text)).collect();
    let others: Vec<Vec<String>> = (0..500).map(|number| path(&format!("p{number}.q.r"))).collect();
    for (index, wanted) in wanted.iter().enumerate() {
        let mut alone = Found::default();
        alone.look_up(&Paths::new([(3, parsed[index].as_slice())]), document);
        assert_eq!(alone.values(0).get(3), *wanted, "{} alone", paths[index]);
    }
    let all = parsed.iter().chain(&others).map(Vec::as_slice);
    let all = Paths::new((0..).zip(all));
    let mut found = Found::default();
    found.look_up(&all, "{\"p7\":{\"q\":{\"r\":true}}}");
    found.pass_over();
    found.look_up(&all, document);
    assert_eq!(found.values(0).iter().collect::<Vec<_>>(), [(9 + 7, "true")]);
    assert_eq!(found.values(1).iter().count(), 0);
    for (slot, wanted) in (0..).zip(wanted) {
        assert_eq!(found.values(2).get(slot), wanted, "path {slot}");
    }
}
