//! The tables of all TOML files with their keys, read from the JSON schemas.

use super::FileKind;
use serde_json::{Map, Value};

/// A table of a TOML file with its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The kind of file in which the table was found first.
    pub file: FileKind,
    /// Name of the type, with the variant after a colon; tables of one name are described once.
    id: String,
    /// Where the table stands in its files.
    pub places: Vec<Place>,
    /// The key and the value by which this table differs from others in the same places: `architecture = "vit"`.
    pub variant: Option<String>,
    /// What the table describes.
    pub about: String,
    /// The keys, in the order of the type's fields.
    pub keys: Vec<Key>,
}

/// A place of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kind of file.
    pub file: FileKind,
    /// Keys from the top of the file to the table, joined by dots; empty for the top of the file.
    pub path: String,
    /// Whether it is a list of tables: `[[arms]]`.
    pub is_list: bool,
}

/// A key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name of the key.
    pub name: String,
    /// Type of the value, in words, or the values that are allowed.
    pub kind: String,
    /// Default as TOML, `required`, or `-` for an optional key without a value.
    pub default: String,
    /// What the key means, with unit and range.
    pub about: String,
    /// Whether the key may be absent without a default, as an `Option` in Rust.
    pub is_optional: bool,
}

impl Place {
    /// The place of a table below this one.
    fn below(&self, key: &str, is_list: bool) -> Self {
        Self { file: self.file, path: self.path_of(key), is_list }
    }

    /// Keys from the top of the file to a key of this table, joined by dots.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    /// The table's header in TOML; `None` for the top of the file.
    pub fn header(&self) -> Option<String> {
        match (self.path.as_str(), self.is_list) {
            ("", _) => None,
            (path, true) => Some(format!("[[{path}]]")),
            (path, false) => Some(format!("[{path}]")),
        }
    }
}

/// Returns the tables of all kinds of file; a table that several files have is described once, with all its places.
pub fn sections() -> Vec<Section> {
    let mut sections = Vec::new();
    for file in FileKind::ALL {
        let root = file.derived();
        let mut reader = Reader { root: &root, sections: &mut sections, open: Vec::new() };
        let top = Place { file, path: String::new(), is_list: false };
        reader.table(Node { schema: &root, name: file.name().to_string(), about: None }, top);
    }
    sections
}

/// Reads the schema of one kind of file.
struct Reader<'a> {
    root: &'a Value,
    sections: &'a mut Vec<Section>,
    /// Names of the tables that are being read, from the top of the file.
    open: Vec<String>,
}

/// A schema after references and `null` were resolved.
#[derive(Clone)]
struct Node<'a> {
    schema: &'a Value,
    /// Name of its type; that of the key for a type without a name.
    name: String,
    /// Description of the place that refers to it, which precedes its own.
    about: Option<&'a str>,
}

impl<'a> Node<'a> {
    fn about(&self) -> String {
        self.about.or_else(|| text(self.schema, "description")).unwrap_or_default().to_string()
    }

    fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.schema.get("properties").and_then(Value::as_object)
    }

    fn is_table(&self) -> bool {
        self.properties().is_some()
    }

    /// The alternatives of an enum; empty for other schemas.
    fn forms(&self) -> &'a [Value] {
        let forms = self.schema.get("oneOf").or_else(|| self.schema.get("anyOf"));
        forms.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

impl<'a> Reader<'a> {
    /// Follows references, and leaves out `null`.
    fn resolve(&self, schema: &'a Value, key: &str) -> Node<'a> {
        let mut node = Node { schema, name: key.to_string(), about: text(schema, "description") };
        loop {
            let only = |list: &'a Value| list.as_array().filter(|list| list.len() == 1).and_then(|list| list.first());
            let some = |list: &'a Value| {
                let list = list.as_array()?;
                let mut rest = list.iter().filter(|form| text(form, "type") != Some("null"));
                rest.next().filter(|_| list.len() == 2 && rest.next().is_none())
            };
            if let Some(name) = text(node.schema, "$ref").and_then(|path| path.strip_prefix("#/definitions/")) {
                let Some(target) = self.root.get("definitions").and_then(|all| all.get(name)) else { return node };
                node = Node { schema: target, name: name.to_string(), ..node };
            } else if let Some(inner) = node.schema.get("allOf").and_then(only) {
                node.schema = inner;
            } else if let Some(inner) = node.schema.get("anyOf").and_then(some) {
                node.schema = inner;
            } else {
                return node;
            }
        }
    }

    /// Adds a table, and the tables below it. A table that contains one of its own kind gets a further place.
    fn table(&mut self, node: Node<'a>, place: Place) {
        if self.open.contains(&node.name) {
            return self.add(&node.name, place, None, String::new(), Vec::new());
        }
        self.open.push(node.name.clone());
        self.fields(node, place);
        self.open.pop();
    }

    fn fields(&mut self, node: Node<'a>, place: Place) {
        let variants: Vec<&'a Value> = node.forms().iter().filter(|form| form.get("properties").is_some()).collect();
        // A type that is read from a table of one key per variant: `[data.world]`, `[connector.sva]`.
        if node.properties().is_none() && variants.iter().all(|form| tag(form).is_none()) {
            let rows: Vec<(&'a str, &'a Value, Option<&'a str>)> = variants
                .iter()
                .filter_map(|form| {
                    let (name, schema) = form.get("properties")?.as_object()?.iter().next()?;
                    Some((name.as_str(), schema, text(form, "description")))
                })
                .collect();
            let key = |(name, schema, about): &(&'a str, &'a Value, Option<&'a str>)| {
                let node = self.resolve(schema, name);
                let about = about.map_or_else(|| node.about(), String::from);
                Key {
                    name: (*name).to_string(),
                    kind: self.kind(&node),
                    default: "one of these".into(),
                    about,
                    is_optional: true,
                }
            };
            let keys = rows.iter().map(key).collect();
            self.add(&node.name, place.clone(), None, node.about(), keys);
            for (name, schema, _) in rows {
                self.below(schema, name, &place);
            }
            return;
        }
        if let Some(properties) = node.properties() {
            let keys = self.keys(node.schema, properties);
            self.add(&node.name, place.clone(), None, node.about(), keys);
            for (name, schema) in properties {
                self.below(schema, name, &place);
            }
        }
        // The tables of an enum that a key tells apart: `architecture = "vit"`.
        for form in variants {
            let (Some(properties), Some((key, value))) = (form.get("properties").and_then(Value::as_object), tag(form))
            else {
                continue;
            };
            let keys = self.keys(form, properties);
            let about = text(form, "description").unwrap_or_default().to_string();
            let id = format!("{}:{value}", node.name);
            self.add(&id, place.clone(), Some(format!("{key} = \"{value}\"")), about, keys);
            for (name, schema) in properties {
                self.below(schema, name, &place);
            }
        }
    }

    /// Adds the tables that are the value of a key, or the elements of its list.
    fn below(&mut self, schema: &'a Value, key: &str, place: &Place) {
        let mut node = self.resolve(schema, key);
        let mut is_list = false;
        while let Some(items) = node.schema.get("items").filter(|items| items.is_object()) {
            node = Node { about: None, ..self.resolve(items, key) };
            is_list = true;
        }
        if node.is_table() || node.forms().iter().any(|form| form.get("properties").is_some()) {
            return self.table(Node { about: None, ..node }, place.below(key, is_list));
        }
        for form in node.forms() {
            let node = self.resolve(form, key);
            if node.is_table() {
                self.table(Node { about: None, ..node }, place.below(key, is_list));
            }
        }
    }

    fn add(&mut self, id: &str, place: Place, variant: Option<String>, about: String, keys: Vec<Key>) {
        match self.sections.iter_mut().find(|section| section.id == id) {
            // Files of another kind have the same table in the same place: it is listed for the first kind.
            Some(section) if section.places.iter().any(|known| known.path == place.path) => {}
            Some(section) => section.places.push(place),
            None => {
                let (file, id) = (place.file, id.to_string());
                self.sections.push(Section { file, id, places: vec![place], variant, about, keys });
            }
        }
    }

    fn keys(&self, table: &'a Value, properties: &'a Map<String, Value>) -> Vec<Key> {
        let required = table.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let key = |(name, schema): (&'a String, &'a Value)| {
            let node = self.resolve(schema, name);
            let default = match (text(schema, "x-default"), schema.get("default")) {
                _ if required.iter().any(|key| key == name) => "required".into(),
                (Some(words), _) => words.into(),
                (None, Some(default)) => toml(default, text(node.schema, "format") == Some("float")),
                (None, None) => "-".into(),
            };
            let about = match text(schema, "const") {
                Some(_) => "Selects the keys of this table.".into(),
                None => self.about(&node),
            };
            Key { name: name.clone(), kind: self.kind(&node), default, about, is_optional: accepts_null(schema) }
        };
        // A key whose schema is `true` is described by a variant.
        properties.iter().filter(|(_, schema)| schema.is_object()).map(key).collect()
    }

    /// The description of a key; those of its values are added if it does not name them.
    fn about(&self, node: &Node<'a>) -> String {
        let mut about = node.about();
        let node = match node.schema.get("items") {
            Some(items) => self.resolve(items, &node.name),
            None => node.clone(),
        };
        let values = values(node.schema);
        if values.iter().all(|(value, _)| about.contains(&format!("`{value}`"))) {
            return about;
        }
        if values.len() > FEW {
            let names: Vec<String> = values.iter().map(|(value, _)| format!("`{value}`")).collect();
            return format!("{about} One of {}.", names.join(", "));
        }
        for (value, text) in values {
            if let Some(text) = text {
                about += &format!(" `{value}`: {text}");
            }
        }
        about
    }

    /// The type of a value, in words.
    fn kind(&self, node: &Node<'a>) -> String {
        let schema = node.schema;
        let values = values(schema);
        if !values.is_empty() && values.len() <= FEW {
            let quoted: Vec<String> = values.iter().map(|(value, _)| format!("\"{value}\"")).collect();
            let (last, others) = quoted.split_last().map_or(("", &[][..]), |(last, others)| (last, others));
            return if others.is_empty() { last.into() } else { format!("{} or {last}", others.join(", ")) };
        }
        if let Some(items) = schema.get("items") {
            let items = plural(&self.kind(&self.resolve(items, &node.name)));
            return match schema.get("minItems").filter(|least| Some(*least) == schema.get("maxItems")) {
                Some(count) => format!("list of {count} {items}"),
                None => format!("list of {items}"),
            };
        }
        if node.is_table() {
            return "table".into();
        }
        if values.is_empty() && !node.forms().is_empty() {
            let mut kinds: Vec<String> = Vec::new();
            for form in node.forms() {
                let kind = match values_or_string(form) {
                    true => "string".into(),
                    false => self.kind(&self.resolve(form, &node.name)),
                };
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            return kinds.join(" or ");
        }
        if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
            return format!("table of {} by name", plural(&self.kind(&self.resolve(inner, &node.name))));
        }
        let types = match schema.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            Some(kind) => kind.as_str(),
            None => None,
        };
        types.map_or_else(|| "any value".into(), String::from)
    }
}

/// Largest number of values that the type of a key lists.
const FEW: usize = 8;

fn text<'a>(schema: &'a Value, keyword: &str) -> Option<&'a str> {
    schema.get(keyword).and_then(Value::as_str)
}

/// The key of a variant's table that has only one value, and this value.
fn tag(form: &Value) -> Option<(&str, &str)> {
    let properties = form.get("properties")?.as_object()?;
    properties.iter().find_map(|(key, schema)| Some((key.as_str(), text(schema, "const")?)))
}

/// The strings that a schema allows, with their descriptions; empty if it allows others.
fn values(schema: &Value) -> Vec<(&str, Option<&str>)> {
    if let Some(value) = text(schema, "const") {
        return vec![(value, text(schema, "description"))];
    }
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return list.iter().filter_map(|value| Some((value.as_str()?, None))).collect();
    }
    let Some(forms) = schema.get("oneOf").and_then(Value::as_array) else { return Vec::new() };
    let mut all = Vec::new();
    for form in forms {
        match values(form) {
            none if none.is_empty() => return Vec::new(),
            some => all.extend(some),
        }
    }
    all
}

/// The plural of a type: `strings or tables`, `lists of integers`.
fn plural(kind: &str) -> String {
    let one = |kind: &str| match kind.strip_prefix("list of ") {
        Some(items) => format!("lists of {items}"),
        None if kind.ends_with('"') => kind.to_string(),
        None => format!("{kind}s"),
    };
    kind.split(" or ").map(one).collect::<Vec<_>>().join(" or ")
}

fn accepts_null(schema: &Value) -> bool {
    let forms = schema.get("anyOf").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let types = schema.get("type").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    types.iter().any(|kind| kind == "null") || forms.iter().any(|form| text(form, "type") == Some("null"))
}

fn values_or_string(form: &Value) -> bool {
    !values(form).is_empty() || text(form, "type") == Some("string")
}

/// Formats a default as TOML.
fn toml(value: &Value, is_f32: bool) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Object(_) => "see its table".into(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| toml(item, is_f32)).collect::<Vec<_>>().join(", "))
        }
        // The shortest digits of the 32-bit number, not those of its 64-bit value.
        Value::Number(number) if is_f32 => number.as_f64().map_or_else(String::new, |x| format!("{:?}", x as f32)),
        Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, |x| format!("{x:?}")),
        Value::Number(_) | Value::Bool(_) | Value::String(_) => value.to_string(),
    }
}
