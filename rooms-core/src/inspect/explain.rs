//! Why a user hears nothing: what is known, in sentences.

use crate::{
    node::NodeId,
    reports::{
        ConnectionReport, Finding, FleetReport, Incident, IncidentKind, KindReport, MembershipReport, NodeSummary,
        RoomReport, RuleSort, SubscriptionReport, TurnedAway, UserReport, Weight,
    },
    room_key::RoomKey,
};

/// The incidents that are told of, of each sort: who reads on has the list.
const TOLD: usize = 5;

/// What the nodes said.
pub(super) struct Known<'a> {
    pub(super) user: &'a str,
    pub(super) room: Option<&'a RoomKey>,
    pub(super) users: &'a FleetReport<UserReport>,
    pub(super) rooms: Option<&'a FleetReport<RoomReport>>,
    pub(super) nodes: &'a FleetReport<NodeSummary>,
    pub(super) kinds: &'a [KindReport],
    /// In milliseconds since 1970.
    pub(super) now: u64,
}

impl Known<'_> {
    /// In the order in which a connection comes by.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut all = Vec::new();
        self.about_nodes(&mut all);
        self.about_kind(&mut all);
        self.about_incidents(&mut all, &[IncidentKind::Refused], "before it was connected");
        self.about_strangers(&mut all);
        self.about_connections(&mut all);
        self.about_incidents(&mut all, &[IncidentKind::Closed, IncidentKind::Left], "its connection ended");
        self.about_incidents(&mut all, &[IncidentKind::Denied, IncidentKind::PutOut], "in a room");
        self.about_room(&mut all);
        if all.iter().all(|finding| finding.weight == Weight::Fine) {
            all.push(fine(
                "Nothing is wrong as far as the nodes know. What was sent is in the socket: look at the page, and at \
                           proxies between, next.",
            ));
        }
        all
    }

    /// Nodes that left any of the questions unanswered.
    pub(super) fn silent(&self) -> Vec<NodeId> {
        let of_rooms = self.rooms.into_iter().flat_map(|rooms| &rooms.silent);
        let mut silent: Vec<_> = self.users.silent.iter().chain(of_rooms).chain(&self.nodes.silent).copied().collect();
        silent.sort_unstable();
        silent.dedup();
        silent
    }

    fn about_nodes(&self, all: &mut Vec<Finding>) {
        for node in &self.nodes.nodes {
            if node.bus_down {
                let text = "The bus of this node is down: what other nodes broadcast does not reach its members.";
                all.push(problem(text).on(node.node));
            }
            if node.draining {
                let text = "This node is shutting down: it takes no connections, and closes those that it has.";
                all.push(notice(text).on(node.node));
            }
        }
        for node in self.silent() {
            all.push(notice("This node gave no answer, so what it has is not known.").on(node));
        }
        if all.is_empty() {
            let text = match self.nodes.nodes.len() {
                1 => "There is one node, and its bus is up.".to_owned(),
                nodes => format!("All {nodes} nodes answered, and their buses are up."),
            };
            all.push(fine(text));
        }
    }

    fn about_kind(&self, all: &mut Vec<Finding>) {
        let Some(room) = self.room else { return };
        let name = room.kind();
        match self.kinds.iter().find(|kind| *kind.kind == *name) {
            None => all.push(problem(format!("This application has no kind `{name}`, so nobody can join the room."))),
            Some(KindReport { rule: RuleSort::Nobody, .. }) => {
                all.push(problem(format!("The kind `{name}` has no rule, so nobody may join its rooms.")));
            }
            Some(KindReport { rule: RuleSort::Owner, .. }) if room.id() != self.user => {
                all.push(problem(format!("Rooms of the kind `{name}` are for the user of their id alone.")));
            }
            Some(KindReport { rule, .. }) => {
                let who = match rule {
                    RuleSort::Everybody => "everybody may join",
                    RuleSort::Authenticated => "everybody with a token may join",
                    RuleSort::Owner => "the user of its id may join",
                    RuleSort::Claim => "those may join whose token names the room",
                    _ => "the application's rule decides who may join",
                };
                all.push(fine(format!("The kind `{name}` has a rule: {who}.")));
            }
        }
    }

    fn about_incidents(&self, all: &mut Vec<Finding>, kinds: &[IncidentKind], when: &str) {
        let of_nodes = self.users.nodes.iter().flat_map(|report| report.incidents.iter().map(|one| (report.node, one)));
        let mut told: Vec<_> = of_nodes
            .filter(|(_, incident)| kinds.contains(&incident.kind))
            .filter(|(_, incident)| self.room.is_none_or(|room| incident.room.as_ref().is_none_or(|of| of == room)))
            .collect();
        told.sort_by_key(|(_, incident)| std::cmp::Reverse(incident.at));
        if told.len() > TOLD {
            all.push(notice(format!(
                "{} more such things happened {when}; here are the last {TOLD}.",
                told.len() - TOLD
            )));
        }
        told.truncate(TOLD);
        for (node, incident) in told.into_iter().rev() {
            let finding = Finding { at: Some(incident.at), ..self.sentence(incident) };
            all.push(finding.on(node));
        }
    }

    /// Who is not connected may be one of those whom a node turned away without knowing who that was.
    fn about_strangers(&self, all: &mut Vec<Finding>) {
        if self.connections().next().is_some() {
            return;
        }
        for node in &self.nodes.nodes {
            let TurnedAway { upgrades, tokens, reasons } = &node.turned_away;
            if upgrades + tokens == 0 {
                continue;
            }
            let reasons: Vec<_> = reasons.iter().map(|(reason, times)| format!("{reason} ({times})")).collect();
            let text = format!(
                "In the last hour this node refused {upgrades} {} and {tokens} {} of nobody known, and one of them may have been \
                 this user's: {}.",
                plural(*upgrades, "upgrade"),
                plural(*tokens, "token"),
                reasons.join("; ")
            );
            all.push(notice(text).on(node.node));
        }
    }

    fn sentence(&self, incident: &Incident) -> Finding {
        let Incident { kind, reason, code, room, .. } = incident;
        let code = code.map(|code| format!(" with the code {code}")).unwrap_or_default();
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let room = room.as_ref().map_or_else(|| "a room".to_owned(), |room| format!("the room `{room}`"));
        match kind {
            IncidentKind::Refused => notice(format!("It was not let in{code}{why}.")),
            IncidentKind::Left => notice(format!("A connection ended as its client went{code}{why}.")),
            IncidentKind::Closed => notice(format!("A connection was closed by this node{code}{why}.")),
            IncidentKind::Denied => {
                let joined = self.is_in(incident.room.as_ref());
                let text = format!("A join of {room} failed{code}{why}.");
                if self.room.is_some() && !joined { problem(text) } else { notice(text) }
            }
            IncidentKind::PutOut => notice(format!("It was put out of {room}{why}.")),
            _ => notice(format!("{reason}.")),
        }
    }

    fn about_connections(&self, all: &mut Vec<Finding>) {
        let mut connections = self.connections().peekable();
        if connections.peek().is_none() {
            let text = match self.users.nodes.len() {
                1 => "It has no connection on this node.".to_owned(),
                nodes => format!("It has no connection on any of the {nodes} nodes that answered."),
            };
            all.push(problem(text));
        }
        for (node, connection) in connections {
            let ConnectionReport { load, rooms, rooms_left_out, .. } = connection;
            let seconds = (self.now / 1000).saturating_sub(connection.connected_at);
            let many = rooms.len() + rooms_left_out;
            let text =
                format!("It has been connected for {}, and is in {many} {}.", span(seconds), plural(many, "room"));
            all.push(Finding { at: Some(connection.connected_at * 1000), ..fine(text).on(node) });
            if let Some(code) = connection.closing {
                all.push(problem(format!("This connection is being closed, with the code {code}.")).on(node));
            }
            if load.messages > 0 {
                let text = format!(
                    "{} {} with {} bytes wait for it, as its client takes less than comes; at most {} and {} bytes may.",
                    load.messages,
                    plural(load.messages, "message"),
                    load.bytes,
                    connection.max_outbox_messages,
                    connection.max_outbox_bytes
                );
                all.push(notice(text).on(node));
            }
            if load.resyncs > 0 {
                let text = format!(
                    "What waited for it was dropped {} {}, and it was told to fetch again, as its client took less than came.",
                    load.resyncs,
                    plural(load.resyncs as usize, "time")
                );
                all.push(notice(text).on(node));
            }
        }
    }

    fn about_room(&self, all: &mut Vec<Finding>) {
        let (Some(room), Some(rooms)) = (self.room, self.rooms) else { return };
        let memberships: Vec<_> = self.memberships(room).collect();
        if memberships.is_empty() && self.connections().next().is_some() {
            let unlisted = self.connections().any(|(_, connection)| connection.rooms_left_out > 0);
            let text = format!("None of its connections is in the room `{room}`.");
            all.push(if unlisted {
                notice(format!("{text} Not all of their rooms are listed, though."))
            } else {
                problem(text)
            });
        }
        for (node, membership) in &memberships {
            all.push(how_it_is_in(room, membership).on(*node));
        }
        for report in rooms.nodes.iter().filter(|report| report.here) {
            if memberships.iter().any(|(node, _)| *node == report.node) {
                all.push(subscription(report).on(report.node));
            }
            let resyncs = report.incidents.iter().filter(|incident| incident.kind == IncidentKind::Resync);
            for incident in resyncs.take(TOLD) {
                let text = format!("Members of the room were told to fetch again: {}.", incident.reason);
                all.push(Finding { at: Some(incident.at), ..notice(text).on(report.node) });
            }
        }
        all.push(last_message(room, rooms, self.now));
    }

    fn connections(&self) -> impl Iterator<Item = (NodeId, &ConnectionReport)> {
        self.users.nodes.iter().flat_map(|report| report.connections.iter().map(|one| (report.node, one)))
    }

    fn memberships(&self, room: &RoomKey) -> impl Iterator<Item = (NodeId, &MembershipReport)> {
        self.connections().flat_map(move |(node, connection)| {
            connection.rooms.iter().filter(move |membership| membership.room == *room).map(move |one| (node, one))
        })
    }

    fn is_in(&self, room: Option<&RoomKey>) -> bool {
        room.is_some_and(|room| self.memberships(room).next().is_some())
    }
}

fn how_it_is_in(room: &RoomKey, membership: &MembershipReport) -> Finding {
    if membership.joining {
        return problem(format!("It is joining `{room}`: its `on_join` hook runs, or the bus is waited for."));
    }
    if membership.behind {
        return notice(format!("It is in `{room}`, and is given what it missed once its client takes something."));
    }
    if membership.paused {
        return notice(format!(
            "It is in `{room}`, and its page asked to be given no messages of it for now, as a hidden tab does."
        ));
    }
    match (membership.lag, membership.observer) {
        (0, false) => fine(format!("It is in `{room}`, and was handed all that came.")),
        (0, true) => fine(format!("It is in `{room}` as an observer, and was handed all that came.")),
        (lag, _) => notice(format!(
            "It is in `{room}`, and {lag} {} were not handed to it yet.",
            plural(lag as usize, "message")
        )),
    }
}

fn subscription(report: &RoomReport) -> Finding {
    match report.subscription {
        SubscriptionReport::Live => fine("The room is subscribed at the bus of this node."),
        SubscriptionReport::Confirmed => {
            notice("The room is subscribed, and the other nodes are asked for their counts.")
        }
        SubscriptionReport::Asked => problem("The bus of this node was asked for the room, and has not confirmed it."),
        SubscriptionReport::None => problem("The room is not subscribed at the bus of this node, which refused it."),
    }
}

fn last_message(room: &RoomKey, rooms: &FleetReport<RoomReport>, now: u64) -> Finding {
    let here = || rooms.nodes.iter().filter(|report| report.here);
    let Some((quiet, report)) =
        here().filter_map(|report| Some((report.quiet_s?, report))).min_by_key(|(quiet, _)| *quiet)
    else {
        let text = if here().next().is_none() {
            format!("Nobody is in `{room}` on any node that answered, so no node knows of its messages.")
        } else {
            format!("No message came for `{room}` since it is on the nodes that have it: there was nothing to hear.")
        };
        return notice(text);
    };
    let position = report.position.as_ref().map(|position| format!(", at the position {position}")).unwrap_or_default();
    let text = format!("The last message of `{room}` came {} ago{position}.", span(quiet));
    Finding { at: Some(now.saturating_sub(quiet * 1000)), ..fine(text).on(report.node) }
}

fn finding(weight: Weight, text: impl Into<String>) -> Finding {
    Finding { weight, text: text.into(), at: None, node: None }
}

fn fine(text: impl Into<String>) -> Finding {
    finding(Weight::Fine, text)
}

fn notice(text: impl Into<String>) -> Finding {
    finding(Weight::Notice, text)
}

fn problem(text: impl Into<String>) -> Finding {
    finding(Weight::Problem, text)
}

impl Finding {
    fn on(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }
}

fn plural(count: usize, one: &str) -> String {
    if count == 1 { one.to_owned() } else { format!("{one}s") }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manager::RoomManager;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_answers_for_the_user_and_not_for_the_room_is_named() {
        let rooms: RoomManager = RoomManager::builder().build().unwrap();
        let (room, silent) = (RoomKey::new("post", 1).unwrap(), rooms.node());
        let mut of_room = rooms.inspect_room(&room).await;
        of_room.silent.push(silent);
        let (users, nodes) = (rooms.inspect_user("ann").await.unwrap(), rooms.inspect_nodes().await);
        let known = Known {
            user: "ann",
            room: Some(&room),
            users: &users,
            rooms: Some(&of_room),
            nodes: &nodes,
            kinds: &[],
            now: 0,
        };
        assert_eq!(known.silent(), [silent]);
        let said = known.findings();
        assert!(said.iter().any(|one| one.node == Some(silent) && one.text.starts_with("This node gave no answer")));
    }
}
