//! Random files of Protobuf as text, and messages that look like theirs.

use super::draws::Draws;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::{Kind, MessageDescriptor};
use std::fmt::Write;

/// The path of a file that is no import.
pub const ROOT: &str = "root.proto";

/// A file, and one that it imports.
#[derive(Debug)]
pub struct Files {
    pub root: String,
    pub import: (String, String),
}

struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(path, _)| path == name);
        let (_, text) = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// Compiles a file with its imports, as a producer would.
pub fn compile(root: &str, imports: &[(String, String)]) -> Compiler {
    let mut texts = vec![(ROOT.to_owned(), root.to_owned())];
    texts.extend_from_slice(imports);
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler
        .open_file(ROOT)
        .unwrap_or_else(|error| panic!("{error:?}: {root}"));
    compiler
}

pub fn files(draws: &mut Draws) -> Files {
    let is_proto2 = draws.once_in(2);
    let package = draws.of(&["", "t", "a.b.c"]);
    let mut import = Maker::new(draws, "lib", true);
    import.file(1);
    let (mut text, mut types) = (import.text, import.types);
    text.insert_str(0, "syntax = \"proto2\"; package lib; ");
    if !is_proto2 {
        // A closed enum cannot be in a message of proto3.
        types.retain(|name| name.is_message);
    }
    let mut root = Maker::new(draws, package, is_proto2);
    root.types = types;
    root.types.extend(
        [
            "Timestamp",
            "Duration",
            "Struct",
            "Value",
            "Any",
            "StringValue",
            "Int64Value",
            "FieldMask",
        ]
        .map(|name| Type {
            name: format!(".google.protobuf.{name}"),
            is_message: true,
            is_for_maps: true,
        }),
    );
    let count = 1 + root.draws.below(4);
    root.file(count);
    let mut head = format!("syntax = \"proto{}\";\n", if is_proto2 { 2 } else { 3 });
    if !package.is_empty() {
        let _ = writeln!(head, "package {package};");
    }
    for file in [
        "google/protobuf/any.proto",
        "google/protobuf/duration.proto",
        "google/protobuf/field_mask.proto",
        "google/protobuf/struct.proto",
        "google/protobuf/timestamp.proto",
        "google/protobuf/wrappers.proto",
        "lib/other.proto",
    ] {
        let _ = writeln!(head, "import \"{file}\";");
    }
    Files {
        root: head + &root.text,
        import: ("lib/other.proto".to_owned(), text),
    }
}

const NUMBERS: [&str; 13] = [
    "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64",
    "bool", "double", "float",
];

/// What a map's key may be.
const KEYS: [&str; 12] = [
    "string", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32",
    "sfixed64", "bool",
];

struct Type {
    /// With a dot in front.
    name: String,
    is_message: bool,
    /// Whether a value of a map may be of this type: an enum must begin with 0.
    is_for_maps: bool,
}

struct Maker<'d> {
    draws: &'d mut Draws,
    package: &'static str,
    is_proto2: bool,
    /// Types that fields may have.
    types: Vec<Type>,
    text: String,
    count: usize,
}

impl<'d> Maker<'d> {
    fn new(draws: &'d mut Draws, package: &'static str, is_proto2: bool) -> Maker<'d> {
        Maker {
            draws,
            package,
            is_proto2,
            types: Vec::new(),
            text: String::new(),
            count: 0,
        }
    }

    fn fresh(&mut self) -> usize {
        self.count += 1;
        self.count
    }

    fn file(&mut self, messages: usize) {
        let scope = if self.package.is_empty() {
            String::new()
        } else {
            format!(".{}", self.package)
        };
        // Before the fields, so that messages are within themselves and each other.
        for number in 0..messages {
            self.types.push(Type {
                name: format!("{scope}.M{number}"),
                is_message: true,
                is_for_maps: true,
            });
        }
        if self.draws.once_in(2) {
            self.symbols(&scope);
        }
        for number in 0..messages {
            self.message(&format!("M{number}"), &scope, 2);
        }
        if self.is_proto2 && self.draws.once_in(2) {
            let kind = self.draws.of(&NUMBERS);
            let _ = writeln!(
                self.text,
                "extend {scope}.M0 {{ optional {kind} ext_one = 1000; repeated string ext_two = 1001; }}"
            );
        }
    }

    fn symbols(&mut self, scope: &str) {
        let name = format!("E{}", self.fresh());
        let first = if self.is_proto2 {
            self.draws.of(&[0, 1, -5])
        } else {
            0
        };
        let has_alias = self.draws.once_in(3);
        let _ = write!(self.text, "enum {name} {{ ");
        if has_alias {
            self.text.push_str("option allow_alias = true; ");
        }
        let _ = write!(self.text, "{name}_FIRST = {first}; ");
        if has_alias {
            let _ = write!(self.text, "{name}_AGAIN = {first}; ");
        }
        for number in 1..=self.draws.below(4) {
            let _ = write!(self.text, "{name}_v{number} = {}; ", number * 1000 + 7);
        }
        self.text.push_str("}\n");
        self.types.push(Type {
            name: format!("{scope}.{name}"),
            is_message: false,
            is_for_maps: first == 0,
        });
    }

    fn message(&mut self, name: &str, scope: &str, depth: usize) {
        let full = format!("{scope}.{name}");
        let _ = writeln!(self.text, "message {name} {{");
        if self.is_proto2 {
            self.text.push_str("extensions 1000 to 1999;\n");
        }
        if depth > 0 {
            for _ in 0..self.draws.below(3) {
                if self.draws.once_in(2) {
                    self.symbols(&full);
                } else {
                    let nested = format!("N{}", self.fresh());
                    self.types.push(Type {
                        name: format!("{full}.{nested}"),
                        is_message: true,
                        is_for_maps: true,
                    });
                    self.message(&nested, &full, depth - 1);
                }
            }
        }
        let mut number = 0;
        let mut fields = Vec::new();
        for _ in 0..self.draws.below(9) {
            number += 1 + self.draws.below(4);
            if self.draws.once_in(8) {
                number += 2_000;
            }
            fields.push(self.field(&mut number));
        }
        if self.draws.once_in(8) {
            let most = (1 << 29) - 1;
            fields.push(format!(
                "{}string at_most{most} = {most};",
                if self.is_proto2 { "optional " } else { "" }
            ));
        }
        if self.draws.once_in(2) {
            fields.reverse();
        }
        for field in fields {
            let _ = writeln!(self.text, "  {field}");
        }
        self.text.push_str("}\n");
    }

    /// A name in one of the styles whose JSON differs.
    fn field_name(&mut self) -> String {
        let number = self.fresh();
        match self.draws.below(5) {
            0 | 1 => format!("some_field{number}"),
            2 => format!("camelCase{number}"),
            3 => format!("UPPER_{number}"),
            _ => format!("x_{number}__y_"),
        }
    }

    fn field(&mut self, number: &mut usize) -> String {
        let name = self.field_name();
        let alone = if self.is_proto2 { "optional " } else { "" };
        match self.draws.below(12) {
            0 | 1 => {
                let kind = self.scalar();
                let label = match (self.is_proto2, self.draws.below(3)) {
                    (true, 0) => "required ",
                    (true, _) | (false, 0) => "optional ",
                    (false, _) => "",
                };
                let options = match self.draws.below(6) {
                    0 => format!(" [json_name = \"{name} \\\"ü\"]"),
                    1 if self.is_proto2 && kind.ends_with("32") => " [default = 7]".to_owned(),
                    2 => " [deprecated = true]".to_owned(),
                    _ => String::new(),
                };
                format!("{label}{kind} {name} = {number}{options};")
            }
            2 | 3 => {
                let kind = self.draws.of(&NUMBERS);
                let options = self.draws.of(&["", " [packed = true]", " [packed = false]"]);
                format!("repeated {kind} {name} = {number}{options};")
            }
            4 => format!("repeated string {name} = {number};"),
            5 | 6 => {
                let kind = self.declared(|kind| kind.is_message);
                let label = if self.draws.once_in(3) { "repeated " } else { alone };
                format!("{label}{kind} {name} = {number};")
            }
            7 => {
                let kind = self.declared(|kind| !kind.is_message);
                let label = if self.draws.once_in(3) { "repeated " } else { alone };
                format!("{label}{kind} {name} = {number};")
            }
            8 | 9 => {
                let key = self.draws.of(&KEYS);
                let value = match self.draws.below(4) {
                    0 => self.declared(|kind| kind.is_message),
                    1 => self.declared(|kind| !kind.is_message && kind.is_for_maps),
                    _ => self.scalar().to_owned(),
                };
                format!("map<{key}, {value}> {name} = {number};")
            }
            10 if self.is_proto2 => {
                let label = self.draws.of(&["optional", "repeated"]);
                let group = format!("Group{}", self.fresh());
                format!(
                    "{label} group {group} = {number} {{ optional int32 inner = 1; repeated string texts = 2; }}"
                )
            }
            _ => {
                let mut members = format!("oneof {name} {{ ");
                for _ in 0..=self.draws.below(3) {
                    let member = self.field_name();
                    let kind = match self.draws.below(3) {
                        0 => self.declared(|kind| kind.is_message),
                        1 => self.declared(|kind| !kind.is_message),
                        _ => self.scalar().to_owned(),
                    };
                    let _ = write!(members, "{kind} {member} = {number}; ");
                    *number += 1;
                }
                members + "}"
            }
        }
    }

    fn scalar(&mut self) -> &'static str {
        match self.draws.below(4) {
            0 => "string",
            1 => "bytes",
            _ => self.draws.of(&NUMBERS),
        }
    }

    fn declared(&mut self, is_wanted: impl Fn(&Type) -> bool) -> String {
        let names: Vec<&str> = self
            .types
            .iter()
            .filter(|kind| is_wanted(kind))
            .map(|kind| kind.name.as_str())
            .collect();
        if names.is_empty() {
            return "string".to_owned();
        }
        self.draws.of(&names).to_owned()
    }
}

/// Bytes that are nearly a message: fields of the type and others, with right and wrong encodings.
pub fn nearly(draws: &mut Draws, message: &MessageDescriptor, depth: usize) -> Vec<u8> {
    let fields: Vec<_> = message.fields().collect();
    let mut bytes = Vec::new();
    for _ in 0..draws.below(8) {
        if fields.is_empty() || draws.once_in(16) {
            bytes.extend(draws.bytes(6));
            continue;
        }
        let field = &fields[draws.below(fields.len().min(256))];
        let (wire, content) = match field.kind() {
            Kind::Message(inner) if field.is_group() => {
                let mut content = nearly(draws, &inner, depth.saturating_sub(1));
                content.extend(varint(u64::from(field.number()) << 3 | 4));
                (3, content)
            }
            Kind::Message(inner) => {
                let inner = if depth == 0 {
                    Vec::new()
                } else {
                    nearly(draws, &inner, depth - 1)
                };
                (2, prefixed(&inner))
            }
            Kind::String | Kind::Bytes => (2, prefixed(draws.text().as_bytes())),
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => (1, draws.exactly(8)),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => (5, draws.exactly(4)),
            _ if field.is_packed() => (2, prefixed(&draws.bytes(20))),
            _ => (0, varint(draws.long().cast_unsigned())),
        };
        let wire = if draws.once_in(24) {
            draws.below(6) as u64
        } else {
            wire
        };
        bytes.extend(varint(u64::from(field.number()) << 3 | wire));
        bytes.extend(content);
    }
    bytes
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let mut prefixed = varint(bytes.len() as u64);
    prefixed.extend(bytes);
    prefixed
}

pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = (number & 0x7f).to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
