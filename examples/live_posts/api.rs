//! The endpoints.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request, State, rejection::JsonRejection},
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    response::{IntoResponse, Response},
};
use rooms::{
    Identity,
    axum::{RoomEvents, RoomUpgrade},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    App,
    posts::{Comment, Summary},
};

/// The longest comment, in characters.
const MAX_COMMENT: usize = 2_000;

/// An answer that says what was wrong: `{"error":..}`.
#[derive(Debug)]
pub(crate) struct Problem(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// The body of a request as JSON; whatever is wrong with it is said as a [`Problem`].
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let refused = |why: JsonRejection| Problem(why.status(), why.body_text());
        Json::from_request(request, app).await.map(|Json(body)| Self(body)).map_err(refused)
    }
}

fn no_post(id: u64) -> Problem {
    Problem(StatusCode::NOT_FOUND, format!("there is no post {id}"))
}

/// The user of a request, by its bearer token.
pub(crate) struct Caller(Identity);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let refused =
            |_| Problem(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer <token>` from POST /login".into());
        app.rooms.authenticate(token).await.map(Self).map_err(refused)
    }
}

/// `GET /ws/posts/{post_id}/live?token=..`
pub(crate) async fn live(upgrade: RoomUpgrade, Path(post_id): Path<u64>) -> Response {
    upgrade.room("post", post_id)
}

/// `GET /sse/posts/{post_id}/live`, for networks that let no WebSocket through.
pub(crate) async fn events(events: RoomEvents, Path(post_id): Path<u64>) -> Response {
    events.room("post", post_id)
}

/// `GET /posts`
pub(crate) async fn posts(State(app): State<App>) -> Json<Vec<Summary>> {
    Json(app.posts.summaries())
}

/// `GET /posts/{post_id}/comments`
pub(crate) async fn comments(State(app): State<App>, Path(post_id): Path<u64>) -> Result<Json<Vec<Comment>>, Problem> {
    app.posts.comments(post_id).map(Json).ok_or_else(|| no_post(post_id))
}

#[derive(Debug, Deserialize)]
pub(crate) struct NewComment {
    text: String,
}

/// `POST /posts/{post_id}/comments {"text":..}`
pub(crate) async fn comment(
    State(app): State<App>,
    Path(post_id): Path<u64>,
    Caller(who): Caller,
    Body(new): Body<NewComment>,
) -> Result<(StatusCode, Json<Comment>), Problem> {
    let text = new.text.trim().to_owned();
    let length = text.chars().count();
    if !(1..=MAX_COMMENT).contains(&length) {
        let message = format!("text: 1 to {MAX_COMMENT} characters, and there are {length}");
        return Err(Problem(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let comment = app.posts.comment(post_id, who.user(), text).ok_or_else(|| no_post(post_id))?;
    app.outbox.tell(post_id, json!({"type": "new_comment", "comment": comment}));
    Ok((StatusCode::CREATED, Json(comment)))
}

/// `POST /posts/{post_id}/likes`
pub(crate) async fn like(
    State(app): State<App>,
    Path(post_id): Path<u64>,
    Caller(_): Caller,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let likes = app.posts.like(post_id).ok_or_else(|| no_post(post_id))?;
    app.outbox.tell(post_id, json!({"type": "like_count", "post_id": post_id, "likes": likes}));
    Ok((StatusCode::CREATED, Json(json!({"post_id": post_id, "likes": likes}))))
}
