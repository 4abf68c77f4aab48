//! The head of a request, as the core reads it.

use std::{convert::Infallible, net::SocketAddr};

use hyper::ext::Protocol;
use rooms_core::{
    Endpoint, RoomManager,
    adapter::{Admission, HttpPlace, Opening, Refusal},
};
use warp::{
    Filter,
    host::Authority,
    http::{HeaderMap, Method, Uri},
    path::FullPath,
};

pub(crate) struct Head {
    pub(crate) method: Method,
    /// Of an extended CONNECT.
    protocol: Option<Protocol>,
    uri: Uri,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
    place: Option<HttpPlace>,
}

pub(crate) fn head() -> impl Filter<Extract = (Head,), Error = Infallible> + Copy {
    // The address as warp's own server knows it, in a place that nobody else can write, or as another server says it.
    let peer = warp::addr::remote().and(warp::ext::optional::<SocketAddr>()).map(Option::or);
    warp::method()
        .and(warp::ext::optional::<Protocol>())
        .and(uri())
        .and(warp::header::headers_cloned())
        .and(peer)
        .and(warp::ext::optional::<HttpPlace>())
        .map(|method, protocol, uri, headers, peer, place| Head { method, protocol, uri, headers, peer, place })
}

impl Head {
    /// How it asks for a WebSocket.
    pub(crate) fn opening(&self) -> Opening<'_> {
        match &self.protocol {
            Some(protocol) if self.method == Method::CONNECT => Opening::ExtendedConnect(protocol.as_str()),
            _ => Opening::Method(&self.method),
        }
    }

    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) async fn admit(
        &self,
        rooms: &RoomManager,
        endpoint: &Endpoint,
        opening: Opening<'_>,
    ) -> Result<Admission, Refusal> {
        let admission = rooms.admit(endpoint, opening, &self.uri, &self.headers, self.peer).await?;
        // An upgrade over HTTP/1.1 ends its HTTP connection.
        let place = self.place.clone().filter(|_| !matches!(opening, Opening::Method(_)));
        Ok(admission.frees(place))
    }
}

/// The URI of the request, with its authority: over HTTP/2 there is no `Host` that an `Origin` could be compared with.
fn uri() -> impl Filter<Extract = (Uri,), Error = Infallible> + Copy {
    let query = warp::query::raw().map(Some).or(warp::any().map(|| None)).unify();
    let authority = warp::host::optional().or(warp::any().map(|| None)).unify();
    let build = |path: FullPath, query: Option<String>, authority: Option<Authority>| {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let uri = Uri::builder().path_and_query(format!("{}{query}", path.as_str()));
        let uri = match authority {
            Some(authority) => uri.scheme("http").authority(authority),
            None => uri,
        };
        // It was one, so it is one.
        uri.build().unwrap_or_default()
    };
    warp::path::full().and(query).and(authority).map(build)
}
