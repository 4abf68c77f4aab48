//! The inspector, behind the name `admin` and a password. A real service asks its own sessions who is there.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rooms::Inspector;
use sha2::{Digest as _, Sha256};
use warp::{
    Filter, Rejection, Reply as _,
    http::{StatusCode, header::WWW_AUTHENTICATE},
    reject,
    reply::{self, Response},
};

use crate::App;

/// `/admin/rooms`: the page, with kicks and disconnects; nothing where there is no password.
pub(crate) fn route(
    app: &App,
    password: Option<String>,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + use<> {
    let inspector = Inspector::new(&app.rooms).allow_actions();
    let expected = password.map(|password| digest(&format!("Basic {}", STANDARD.encode(format!("admin:{password}")))));
    let allowed = warp::header::optional::<String>("authorization").and_then(move |said: Option<String>| async move {
        let Some(expected) = expected else { return Err(reject::not_found()) };
        // Digests are compared, so that the time it takes tells nothing of the password.
        Ok(said.is_some_and(|said| digest(&said) == expected))
    });
    warp::path!("admin" / "rooms")
        .and(allowed)
        .and(rooms::warp::inspector(&inspector))
        .map(|is_admin, answer| if is_admin { answer } else { who_are_you() })
}

fn who_are_you() -> Response {
    let asked = reply::with_header(reply::reply(), WWW_AUTHENTICATE, "Basic realm=\"rooms\", charset=\"UTF-8\"");
    reply::with_status(asked, StatusCode::UNAUTHORIZED).into_response()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
