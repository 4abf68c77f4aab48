//! The inspector: a node and its peers as JSON and as a page, for whoever operates them.

mod actions;
mod answer;
mod page;
mod query;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::{Map, Value, json};

use self::{
    answer::{error, json_of},
    query::Query,
};
use crate::manager::RoomManager;

type Section = dyn Fn() -> Value + Send + Sync;

/// Answers the requests of the inspector: one page, and what it shows as JSON. It is for people who operate the service:
/// **it asks nobody who they are, so mount it behind the application's own guard.**
///
/// `rooms_axum::inspector` and `rooms_warp::inspector` mount it; any other framework calls [`respond`](Self::respond).
///
/// | request | answer |
/// |---|---|
/// | `GET` | the page: one file of HTML, which loads nothing else |
/// | `GET ?view=node` | [`NodeReport`](crate::reports::NodeReport), at most a second old, with `sections` and `actions` |
/// | `GET ?view=nodes` | [`NodeSummary`](crate::reports::NodeSummary) of all nodes |
/// | `GET ?view=room&room=post:42` | [`RoomReport`](crate::reports::RoomReport) of all nodes |
/// | `GET ?view=user&user=5` | [`UserReport`](crate::reports::UserReport) of all nodes |
/// | `GET ?view=why&user=5&room=post:42` | [`Explanation`](crate::reports::Explanation); without `room`, of the user alone |
/// | `POST ?do=kick&user=5&room=post:42` | [`RoomManager::kick`], where actions are allowed |
/// | `POST ?do=disconnect&user=5`, or `&connection=..` | [`RoomManager::disconnect_user`], [`RoomManager::disconnect`] |
///
/// Values are percent-encoded. What is wrong is answered by `{"error": ".."}` and 400, 403, 404 or 405. Nothing may be kept by a
/// cache. The page runs its own script and style alone, by a `Content-Security-Policy` with their hashes.
///
/// It shows the ids of users and rooms, and the words of kicks and closes; neither tokens, claims nor payloads.
///
/// ```
/// use http::{HeaderMap, Method, Uri};
/// use rooms_core::{Inspector, RoomManager};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rooms: RoomManager = RoomManager::builder().build()?;
/// let inspector = Inspector::new(&rooms);
/// let uri = Uri::from_static("/admin/rooms?view=node");
/// let answer = inspector.respond(&Method::GET, &uri, &HeaderMap::new()).await;
/// let report: serde_json::Value = serde_json::from_slice(answer.body())?;
/// assert_eq!(report["connections"], 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Inspector {
    rooms: RoomManager,
    actions: bool,
    sections: Vec<(Arc<str>, Arc<Section>)>,
}

impl Inspector {
    /// One that shows, and does nothing.
    #[must_use]
    pub fn new<S>(rooms: &RoomManager<S>) -> Self {
        Self { rooms: rooms.of_frames(), actions: false, sections: Vec::new() }
    }

    /// Lets whoever may see it kick users out of rooms and disconnect them, too. Such a request has to come from a page of the same
    /// host by its `Origin`, and with the header `x-rooms-inspector: 1`, which no page of another site can send: so none
    /// can do it in the name of a user of this one.
    #[must_use]
    pub fn allow_actions(self) -> Self {
        Self { actions: true, ..self }
    }

    /// Shows something of the application's own with the node, such as the release that it is. `show` is called for each report that
    /// is asked for, and must not wait.
    ///
    /// ```
    /// use rooms_core::{Inspector, RoomManager};
    /// use serde_json::json;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let rooms: RoomManager = RoomManager::builder().build()?;
    /// let inspector = Inspector::new(&rooms).section("Build", || json!({"version": env!("CARGO_PKG_VERSION")}));
    /// # let _ = inspector;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn section(mut self, name: impl Into<Arc<str>>, show: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        self.sections.push((name.into(), Arc::new(show)));
        self
    }

    /// Answers a request. Of the URI only the query counts, so it may be mounted anywhere; the authority counts for actions over
    /// HTTP/2, where there is no `Host`. May be dropped at any time.
    pub async fn respond(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Response<Bytes> {
        let query = match Query::read(uri.query().unwrap_or_default()) {
            Ok(query) => query,
            Err(why) => return error(StatusCode::BAD_REQUEST, why),
        };
        match *method {
            Method::GET | Method::HEAD => self.show(&query).await,
            Method::POST => self.act(&query, uri, headers).await,
            _ => answer::not_allowed(),
        }
    }

    async fn show(&self, query: &Query<'_>) -> Response<Bytes> {
        let rooms = &self.rooms;
        match query.text("view") {
            None => page::page(),
            Some("node") => json_of(&self.node().await),
            Some("nodes") => json_of(&rooms.inspect_nodes().await),
            Some("room") => match query.room() {
                Ok(Some(room)) => json_of(&rooms.inspect_room(&room).await),
                Ok(None) => error(StatusCode::BAD_REQUEST, "`room` is to name a room, such as `post:42`"),
                Err(why) => error(StatusCode::BAD_REQUEST, why),
            },
            Some("user") => match rooms.inspect_user(query.text("user").unwrap_or_default()).await {
                Ok(report) => json_of(&report),
                Err(_) => error(StatusCode::BAD_REQUEST, query::NO_USER),
            },
            Some("why") => {
                let room = match query.room() {
                    Ok(room) => room,
                    Err(why) => return error(StatusCode::BAD_REQUEST, why),
                };
                match rooms.explain(query.text("user").unwrap_or_default(), room.as_ref()).await {
                    Ok(explanation) => json_of(&explanation),
                    Err(_) => error(StatusCode::BAD_REQUEST, query::NO_USER),
                }
            }
            Some(_) => error(StatusCode::NOT_FOUND, "there is no such view"),
        }
    }

    async fn node(&self) -> Value {
        let mut report = serde_json::to_value(&*self.rooms.inspect().await).unwrap_or_default();
        let sections: Map<String, Value> =
            self.sections.iter().map(|(name, show)| (name.to_string(), show())).collect();
        if let Some(report) = report.as_object_mut() {
            report.insert("sections".into(), sections.into());
            report.insert("actions".into(), json!(self.actions));
        }
        report
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").field("rooms", &self.rooms).field("actions", &self.actions).finish_non_exhaustive()
    }
}
