//! Direct messages, what is said without a socket, who is in a channel, and how a request is refused.

use std::{convert::Infallible, time::Duration};

use futures::{Stream, StreamExt as _};
use percent_encoding::percent_decode_str;
use rooms::{BroadcastError, Identity, Reach, Receipt, RoomKey};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;
use warp::{
    Buf, Rejection, Reply as _,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    hyper::body::Bytes,
    reject::{self, LengthRequired, MethodNotAllowed, PayloadTooLarge, Reject},
    reply::{self, Response},
};

use crate::{App, login::USER_RULE, rules};

/// How long the body of a request may take to come: a client could otherwise keep its place for ever.
const WHOLE_BODY: Duration = Duration::from_secs(10);

/// The body did not come.
#[derive(Debug)]
struct NoBody;

impl Reject for NoBody {}

/// The whole body, whose length is checked already.
pub(crate) async fn whole(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Bytes, Rejection> {
    let parts = body.fold(Ok(Vec::new()), async |whole: Result<Vec<u8>, warp::Error>, part| {
        let (mut whole, mut part) = (whole?, part?);
        whole.extend_from_slice(&part.copy_to_bytes(part.remaining()));
        Ok(whole)
    });
    match timeout(WHOLE_BODY, parts).await {
        Ok(Ok(body)) => Ok(body.into()),
        _ => Err(reject::custom(NoBody)),
    }
}

/// An answer that says what was wrong: `{"error":..}`.
#[derive(Debug)]
pub(crate) struct Problem(StatusCode, String);

impl Problem {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self(status, error.into())
    }

    pub(crate) fn into_response(self) -> Response {
        reply::with_status(reply::json(&json!({"error": self.1})), self.0).into_response()
    }
}

/// The body of a request; whatever is wrong with it is said.
pub(crate) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Problem::new(status, format!("the body is not the JSON that belongs here: {error}"))
    })
}

#[derive(Debug, Deserialize)]
struct Said {
    text: String,
}

/// `POST /messages/{user} {"text":..}`: to every tab of that user, and to every tab of the sender.
pub(crate) async fn message(to: String, app: App, headers: HeaderMap, body: Bytes) -> Response {
    match send(&app, &to, &headers, &body).await {
        Ok(sent) => reply::with_status(reply::json(&sent), StatusCode::CREATED).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn send(app: &App, to: &str, headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let from = caller(app, headers).await?;
    // A path segment comes as it was written: `auth0%7C5f7c` is the user `auth0|5f7c`.
    let to = percent_decode_str(to).decode_utf8_lossy();
    let inbox = RoomKey::new("user", &to).map_err(|_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, USER_RULE))?;
    let mut message = stamped("direct", &from, body)?;
    if let Some(fields) = message.as_object_mut() {
        fields.insert("to".to_owned(), json!(to));
    }

    tell(app, &to, &message).await?;
    if from.user() != to {
        tell(app, from.user(), &message).await?;
    }
    // Nothing is stored, so the sender is to know when nobody was there.
    let tabs = app.rooms.viewers(&inbox).await.viewers;
    Ok(json!({"message": message, "tabs": tabs}))
}

fn stamped(kind: &str, from: &Identity, body: &[u8]) -> Result<Value, Problem> {
    let said: Said = parsed(body)?;
    let text = rules::text_of(&said.text).map_err(|wrong| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, wrong))?;
    rules::stamped(kind, from.user(), text)
        .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the message has no number"))
}

/// `POST /channels/{name}/messages {"text":..}`: for pages on an event stream, where nothing can be published.
pub(crate) async fn say(name: String, app: App, headers: HeaderMap, body: Bytes) -> Response {
    match said(&app, &name, &headers, &body).await {
        Ok(message) => reply::with_status(reply::json(&message), StatusCode::CREATED).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn said(app: &App, name: &str, headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let from = caller(app, headers).await?;
    let message = stamped("said", &from, body)?;
    told(app.rooms.broadcast(&channel(name)?, &message).await)?;
    Ok(message)
}

/// `GET /channels/{name}/members`: all who are there, of whom `room_joined` names a hundred.
pub(crate) async fn members(name: String, app: App, headers: HeaderMap) -> Response {
    match list(&app, &name, &headers).await {
        Ok(members) => reply::json(&members).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn list(app: &App, name: &str, headers: &HeaderMap) -> Result<Value, Problem> {
    caller(app, headers).await?;
    let members = app.rooms.members(&channel(name)?).await.map_err(|error| {
        tracing::error!(%error, "the members of a channel are not kept");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the members are not kept")
    })?;
    Ok(json!({"users": members.users, "unnamed": members.unnamed}))
}

fn channel(name: &str) -> Result<RoomKey, Problem> {
    let name = percent_decode_str(name).decode_utf8_lossy();
    RoomKey::new("channel", &name)
        .map_err(|_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "that is no name for a channel"))
}

async fn tell(app: &App, user: &str, message: &Value) -> Result<(), Problem> {
    told(app.rooms.send_to_user(user, message).await)
}

fn told(outcome: Result<Receipt, BroadcastError>) -> Result<(), Problem> {
    match outcome {
        Ok(receipt) if receipt.reach == Reach::LocalOnly => {
            tracing::warn!("only the tabs at this process were told");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error @ BroadcastError::TooBig { .. }) => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, "a message did not go out");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the message may have arrived or not"))
        }
    }
}

/// The user of a request, by its bearer token.
async fn caller(app: &App, headers: &HeaderMap) -> Result<Identity, Problem> {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    app.rooms
        .authenticate(token)
        .await
        .map_err(|_| Problem::new(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer <token>` from POST /login"))
}

/// What no route took.
pub(crate) async fn refused(rejection: Rejection) -> Result<Response, Infallible> {
    let (status, error) = if rejection.find::<PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long")
    } else if rejection.find::<NoBody>().is_some() {
        (StatusCode::REQUEST_TIMEOUT, "the body did not come")
    } else if rejection.find::<LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "a body needs a Content-Length")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "this is not the method for that path")
    } else if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "there is nothing at that path")
    } else {
        (StatusCode::BAD_REQUEST, "the request can't be read")
    };
    Ok(Problem::new(status, error).into_response())
}
