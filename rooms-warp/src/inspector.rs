//! The inspector as a filter.

use std::convert::Infallible;

use rooms_core::Inspector;
use warp::{
    Filter,
    reply::{Reply as _, Response},
};

use crate::head::{Head, head};

/// Answers as an [`Inspector`] does, and rejects nothing: put it behind its path. **It asks nobody who they are**: put the
/// application's own guard in front of it.
///
/// ```
/// use rooms_core::{Inspector, RoomManager};
/// use warp::Filter;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let rooms: RoomManager = RoomManager::builder().build()?;
/// // In place of this, whatever tells the application who asks.
/// let operators_only = warp::header::exact("x-operator", "yes");
/// let inspector = warp::path!("admin" / "rooms").and(operators_only).and(rooms_warp::inspector(&Inspector::new(&rooms)));
/// # let _ = inspector;
/// # Ok(()) }
/// ```
pub fn inspector(
    inspector: &Inspector,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + use<> {
    let inspector = inspector.clone();
    head().then(move |head: Head| {
        let inspector = inspector.clone();
        async move { inspector.respond(&head.method, head.uri(), head.headers()).await.into_response() }
    })
}
