//! What members are sent and may say, described for other programs: JSON Schema and AsyncAPI.

mod async_api;
mod definitions;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::definitions::Definitions;
use crate::{
    kind::{Kind, TypeSchema},
    outgoing::Kinds,
    protocol,
};

/// The events of the server's own and the commands of clients, as `protocol` specifies them.
const PROTOCOL: &str = include_str!("schema/protocol.json");

/// What the kinds of a manager declare, and what the protocol adds; see
/// [`RoomManager::schema`](crate::RoomManager::schema).
#[derive(Debug, Clone)]
pub struct Schema {
    title: String,
    version: String,
    /// By the name of the kind.
    kinds: BTreeMap<String, Described>,
    definitions: Map<String, Value>,
    protocol: Protocol,
}

/// The schemas of a kind.
#[derive(Debug, Clone)]
struct Described {
    events: Value,
    publish: Value,
    /// Where the kind keeps a state.
    state: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Protocol {
    server: Vec<Value>,
    client: Vec<Value>,
    definitions: Map<String, Value>,
}

impl Schema {
    pub(crate) fn of(kinds: &Kinds, title: &str, version: &str) -> Self {
        // In the order of their names, so that the same kinds make the same document.
        let kinds: BTreeMap<&str, &Kind> = kinds.iter().map(|(name, kind)| (&**name, &**kind)).collect();
        let (mut sent, mut said) = (Definitions::of_what_is_sent(), Definitions::of_what_is_said());
        let describe = |(name, kind): (&str, &Kind)| {
            let of_events = kind.events.and_then(|events| events.schema);
            let events = of_events.map_or(Value::Bool(true), |schema| sent.add(schema));
            let of_publish = kind.publications.map_or(of_events, |publications| publications.schema);
            let publish = match of_publish {
                _ if kind.publish.lets_nobody() => Value::Bool(false),
                Some(schema) => said.add(schema),
                None => Value::Bool(true),
            };
            let state = kind.state.map(|_| {
                let schema = kind.state_type.and_then(|state| state.schema);
                schema.map_or(Value::Bool(true), |schema| sent.add(schema))
            });
            (name.to_owned(), Described { events, publish, state })
        };
        let mut kinds: BTreeMap<String, Described> = kinds.into_iter().map(describe).collect();
        let mut definitions = sent.joined_by(said, kinds.values_mut().map(|kind| &mut kind.publish));
        // Whether the file is right a test finds out.
        let protocol: Protocol = serde_json::from_str(PROTOCOL).unwrap_or_default();
        definitions.extend(protocol.definitions.clone());
        Self { title: title.to_owned(), version: version.to_owned(), kinds, definitions, protocol }
    }

    /// As a JSON Schema (draft 7): of an object that has a member for each kind, with its `events`, what members `publish`, and
    /// the `state`, where the kind keeps one. No such object is ever sent: the schema is for generators of types, such as `ws-rooms-types` of the client
    /// for TypeScript. A kind that describes no events may have any, and where nobody may publish, `publish` is `false`.
    ///
    /// The definitions `RoomsServerEvent`, `RoomsCommand` and `RoomsMember` are those of the protocol.
    #[must_use]
    pub fn json_schema(&self) -> Value {
        let kind = |Described { events, publish, state }: &Described| {
            let mut parts =
                Map::from_iter([("events".to_owned(), events.clone()), ("publish".to_owned(), publish.clone())]);
            parts.extend(state.clone().map(|state| ("state".to_owned(), state)));
            json!({
                "type": "object",
                "required": parts.keys().collect::<Vec<_>>(),
                "properties": parts,
                "additionalProperties": false,
            })
        };
        let kinds: Map<String, Value> = self.kinds.iter().map(|(name, of)| (name.clone(), kind(of))).collect();
        let mut definitions = self.definitions.clone();
        for (name, events) in [("RoomsServerEvent", &self.protocol.server), ("RoomsCommand", &self.protocol.client)] {
            definitions.insert(name.to_owned(), json!({ "oneOf": events }));
        }
        json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Rooms",
            "description": format!("{} {}: the rooms, by kind.", self.title, self.version),
            "type": "object",
            "required": kinds.keys().collect::<Vec<_>>(),
            "properties": kinds,
            "additionalProperties": false,
            "definitions": definitions,
        })
    }
}

/// The `type` of an event that is one of the server's own; `None` where none of them is.
pub(crate) fn reserved_type(schema: TypeSchema) -> Option<String> {
    let mut definitions = Definitions::of_what_is_sent();
    let event = definitions.add(schema);
    definitions.types(&event).into_iter().find(|name| protocol::is_reserved_type(name))
}

/// Changes each reference in a schema.
fn change_references(schema: &mut Value, change: &mut dyn FnMut(&mut String)) {
    match schema {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(reference) if name == "$ref" => change(reference),
                    field => change_references(field, change),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| change_references(item, change)),
        _ => {}
    }
}
