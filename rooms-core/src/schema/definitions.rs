//! The schemas of types, and the definitions to which they refer.

use std::collections::BTreeSet;

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::change_references;
use crate::kind::TypeSchema;

const PREFIX: &str = "#/definitions/";

/// Collects the schemas of types, as draft 7, which is what AsyncAPI takes as it is.
pub(super) struct Definitions(SchemaGenerator);

impl Definitions {
    /// Of types as they are written: a field that serde always writes is required.
    pub(super) fn of_what_is_sent() -> Self {
        Self(SchemaSettings::draft07().for_serialize().into_generator())
    }

    /// Of types as they are read: a field that has a default may be absent.
    pub(super) fn of_what_is_said() -> Self {
        Self(SchemaSettings::draft07().for_deserialize().into_generator())
    }

    /// The schema of a type: a reference, for all but the simplest.
    pub(super) fn add(&mut self, TypeSchema(make): TypeSchema) -> Value {
        let mut schema = make(&mut self.0);
        self.0.transforms_mut().for_each(|transform| transform.transform(&mut schema));
        schema.to_value()
    }

    /// The definitions of both. One of `said` that has the name of another one gets a name of its own; `references` are the
    /// schemas that refer to them.
    pub(super) fn joined_by<'a>(
        mut self,
        mut said: Self,
        references: impl Iterator<Item = &'a mut Value>,
    ) -> Map<String, Value> {
        let (mut definitions, said) = (self.0.take_definitions(true), said.0.take_definitions(true));
        let others = others(&definitions, &said);
        let mut rename = |reference: &mut String| {
            if reference.strip_prefix(PREFIX).is_some_and(|name| others.contains(name)) {
                reference.push_str("Input");
            }
        };
        references.for_each(|schema| change_references(schema, &mut rename));
        for (name, mut schema) in said.clone() {
            change_references(&mut schema, &mut rename);
            let name = if others.contains(&name) { format!("{name}Input") } else { name };
            definitions.insert(name, schema);
        }
        definitions
    }

    /// The values that the field `type` may have.
    pub(super) fn types(&self, schema: &Value) -> BTreeSet<String> {
        let mut types = BTreeSet::new();
        self.look(schema, &mut BTreeSet::new(), &mut types);
        types
    }

    fn look<'a>(&'a self, schema: &'a Value, seen: &mut BTreeSet<&'a str>, types: &mut BTreeSet<String>) {
        let tag = schema.get("properties").and_then(|properties| properties.get("type"));
        if let Some(tag) = tag {
            let named = tag.get("enum").and_then(Value::as_array).into_iter().flatten().chain(tag.get("const"));
            types.extend(named.filter_map(Value::as_str).map(str::to_owned));
        }
        for several in ["oneOf", "anyOf", "allOf"] {
            let parts = schema.get(several).and_then(Value::as_array);
            parts.into_iter().flatten().for_each(|part| self.look(part, seen, types));
        }
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix(PREFIX));
        if let Some(name) = name.filter(|name| seen.insert(name))
            && let Some(definition) = self.0.definitions().get(name)
        {
            self.look(definition, seen, types);
        }
    }
}

/// The names under which the two have different definitions, or some that refer to such.
fn others(sent: &Map<String, Value>, said: &Map<String, Value>) -> BTreeSet<String> {
    let mut others = BTreeSet::new();
    loop {
        let before = others.len();
        for (name, schema) in said {
            let Some(same) = sent.get(name) else { continue };
            let mut refers = false;
            change_references(&mut schema.clone(), &mut |reference| {
                refers |= reference.strip_prefix(PREFIX).is_some_and(|name| others.contains(name));
            });
            if refers || same != schema {
                others.insert(name.clone());
            }
        }
        if others.len() == before {
            return others;
        }
    }
}
