//! The inspector as a route.

use axum::{
    body::Body,
    http::{HeaderMap, Method, Uri},
    response::Response,
    routing::{MethodRouter, any},
};
use rooms_core::Inspector;

/// The route of an [`Inspector`]. **It asks nobody who they are**: put the application's own guard around it.
///
/// ```
/// use axum::{Router, extract::Request, http::StatusCode, middleware::{Next, from_fn}, response::Response};
/// use rooms_core::{Inspector, RoomManager};
///
/// async fn operators_only(request: Request, next: Next) -> Result<Response, StatusCode> {
///     // In place of this, whatever tells the application who asks.
///     if request.headers().contains_key("x-operator") { Ok(next.run(request).await) } else { Err(StatusCode::NOT_FOUND) }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let rooms: RoomManager = RoomManager::builder().build()?;
/// let inspector = rooms_axum::inspector(&Inspector::new(&rooms)).layer(from_fn(operators_only));
/// let app: Router = Router::new().route("/admin/rooms", inspector);
/// # let _ = app;
/// # Ok(()) }
/// ```
pub fn inspector<S: Clone + Send + Sync + 'static>(inspector: &Inspector) -> MethodRouter<S> {
    let inspector = inspector.clone();
    any(async move |method: Method, uri: Uri, headers: HeaderMap| -> Response {
        inspector.respond(&method, &uri, &headers).await.map(Body::from)
    })
}
