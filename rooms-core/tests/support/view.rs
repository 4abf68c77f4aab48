//! What a member knows of the others.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;

use serde_json::Value;

/// The users that an event names.
pub(crate) fn users(event: &Value) -> Vec<&str> {
    event["users"].as_array().into_iter().flatten().map(|user| user["user"].as_str().unwrap()).collect()
}

/// What a member knows of who is there, from what it was given.
#[derive(Default, Debug)]
pub(crate) struct View {
    /// Who it is.
    me: Option<String>,
    pub(crate) users: BTreeSet<String>,
    pub(crate) events: usize,
}

impl View {
    pub(crate) fn take(&mut self, event: &Value) {
        match event["type"].as_str().unwrap() {
            "room_joined" => {
                let members = event["members"].as_array().unwrap();
                let names = members.iter().map(|member| member["user"].as_str().unwrap().to_owned());
                self.me = names.clone().next();
                self.users = names.collect();
            }
            "viewer_joined" => {
                for user in users(event) {
                    let mine = self.me.as_deref() == Some(user);
                    assert!(self.users.insert(user.to_owned()) || mine, "{user} joins twice");
                }
            }
            "viewer_left" => {
                for user in users(event) {
                    assert!(self.users.remove(user), "{user} leaves before it joined");
                }
            }
            _ => {}
        }
        self.events += 1;
    }
}
