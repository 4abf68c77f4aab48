//! The schemas as a document of AsyncAPI 3.0.

use serde_json::{Map, Value, json};

use super::{Described, Schema, change_references};

/// The channel of what is the protocol's; no kind is called so, as its name has no capital letter.
const CONNECTION: &str = "Connection";

/// Seen from the service.
#[derive(Clone, Copy)]
enum Action {
    Send,
    Receive,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

impl Document {
    /// Adds a channel with the messages that go each way.
    fn channel(&mut self, name: &str, channel: Value, messages: &[(Action, String, Value)]) {
        let mut of_channel = Map::new();
        for action in [Action::Send, Action::Receive] {
            let of_action = messages.iter().filter(|(of, ..)| of.name() == action.name());
            let mut references = Vec::new();
            for (_, message, payload) in of_action {
                let id = format!("{name}.{}.{message}", action.name());
                of_channel.insert(id.clone(), json!({"$ref": format!("#/components/messages/{id}")}));
                references.push(json!({"$ref": format!("#/channels/{name}/messages/{id}")}));
                self.messages.insert(id, json!({"name": message, "payload": payload}));
            }
            if !references.is_empty() {
                let channel = json!({"$ref": format!("#/channels/{name}")});
                let operation = json!({"action": action.name(), "channel": channel, "messages": references});
                self.operations.insert(format!("{name}.{}", action.name()), operation);
            }
        }
        let mut channel = channel;
        if let Some(fields) = channel.as_object_mut() {
            fields.insert("messages".to_owned(), Value::Object(of_channel));
        }
        self.channels.insert(name.to_owned(), channel);
    }
}

impl Schema {
    /// As a document of AsyncAPI 3.0: a channel for each kind, with what the service sends there and what members publish,
    /// and one, `Connection`, with the events and commands of the protocol. It is seen from the service, as AsyncAPI has it:
    /// the service sends events, and receives what is published.
    ///
    /// The address of a channel is the name of a room. The path of the endpoint is the application's and is not in it.
    #[must_use]
    pub fn async_api(&self) -> Value {
        let mut document = Document::default();
        for (kind, Described { events, publish, state }) in &self.kinds {
            let channel = json!({
                "address": format!("{kind}:{{id}}"),
                "description": "A room. An event travels bare on a connection that is for this room alone, and inside a \
                                `message` on one that is for many; what is published is the `data` of a `publish`, and \
                                a state the `state` of a `room_state`.",
                "parameters": {"id": {"description": "The id of the room."}},
            });
            let mut messages = vec![(Action::Send, "event".to_owned(), events.clone())];
            if *publish != Value::Bool(false) {
                messages.push((Action::Receive, "publish".to_owned(), publish.clone()));
            }
            messages.extend(state.clone().map(|state| (Action::Send, "state".to_owned(), state)));
            document.channel(kind, channel, &messages);
        }
        let of_protocol = |action| {
            move |payload: &Value| {
                let title = payload.get("title").and_then(Value::as_str).unwrap_or("event");
                (action, title.to_owned(), payload.clone())
            }
        };
        let server = self.protocol.server.iter().map(of_protocol(Action::Send));
        let client = self.protocol.client.iter().map(of_protocol(Action::Receive));
        let channel = json!({"address": null, "description": "What the protocol adds, on every connection."});
        document.channel(CONNECTION, channel, &server.chain(client).collect::<Vec<_>>());

        let Document { channels, operations, messages } = document;
        let mut document = json!({
            "asyncapi": "3.0.0",
            "info": {"title": self.title, "version": self.version},
            "defaultContentType": "application/json",
            "channels": channels,
            "operations": operations,
            "components": {"messages": messages, "schemas": self.definitions},
        });
        change_references(&mut document, &mut |reference| {
            if let Some(name) = reference.strip_prefix("#/definitions/") {
                *reference = format!("#/components/schemas/{name}");
            }
        });
        document
    }
}
