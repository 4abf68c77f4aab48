//! Where a token may be, and which pages may connect.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/upgrade.rs"]
mod upgrade;

use http::Method;
use rooms_core::{
    BuildError, Endpoint, EndpointError, RoomManager,
    adapter::{Handshake, Opening, Refusal},
};

use upgrade::{APP, all, headers};

fn read(endpoint: &Endpoint, uri: &str, more: &[(&str, &str)]) -> Result<Handshake, Refusal> {
    Handshake::read(endpoint, &Method::GET, &uri.parse().unwrap(), &headers(more))
}

fn token(endpoint: &Endpoint, uri: &str, more: &[(&str, &str)]) -> Result<Option<String>, String> {
    let handshake = read(endpoint, uri, more).map_err(|refusal| refusal.to_string())?;
    handshake.token().map(|token| token.map(ToOwned::to_owned)).map_err(|error| error.to_string())
}

#[test]
fn each_source_gives_the_token() {
    let found = |uri: &str, more: &[(&str, &str)]| token(&all(), uri, &[&[APP], more].concat());
    let good = Ok(Some("abc.def-_".to_owned()));
    assert_eq!(found("/", &[("authorization", "Bearer abc.def-_")]), good);
    assert_eq!(found("/?token=abc.def-_", &[]), good);
    for cookie in [
        "session=abc.def-_",
        "a=b; session=abc.def-_; c=d",
        "session=\"abc.def-_\"",
        " session = abc.def-_ ;",
        "sessions=no; session=abc.def-_; Session=no; xsession=no; session2=no",
        "broken; =; ; a==b;session=abc.def-_",
        "other=\u{e9}\u{ff}; session=abc.def-_",
    ] {
        assert_eq!(found("/", &[("cookie", cookie)]), good, "{cookie}");
    }
    for protocols in [
        &["app.v1, bearer, abc.def-_"][..],
        &["bearer,abc.def-_,app.v1"],
        &["app.v1", "bearer, abc.def-_"],
        &["app.v1, bearer", "abc.def-_"],
        &[" other , bearer , abc.def-_ , app.v1 "],
    ] {
        let headers: Vec<_> = protocols.iter().map(|value| ("sec-websocket-protocol", *value)).collect();
        assert_eq!(found("/", &headers), good, "{protocols:?}");
    }
    for empty in ["Bearer", "bearer ", "BEARER\t "] {
        assert_eq!(found("/", &[("authorization", empty)]), Ok(Some(String::new())), "{empty:?}");
    }
    for none in ["Bearers", "Basic", ""] {
        assert_eq!(found("/", &[("authorization", none)]), Ok(None), "{none:?}");
    }
    for none in ["a=b", "session", "session=; x", "Session=abc"] {
        assert_eq!(found("/", &[("cookie", none)]).map(Option::unwrap_or_default), Ok(String::new()), "{none}");
    }
    for none in ["bearer", "app.v1", "app.v1, Bearer, abc", "bearers, abc", ""] {
        assert_eq!(found("/", &[("sec-websocket-protocol", none)]), Ok(None), "{none}");
    }
    assert_eq!(found("/", &[("cookie", "session=%41")]), Ok(Some("%41".into())), "as it stands");
}

#[test]
fn two_tokens_in_enabled_sources_are_refused_and_others_are_not_seen() {
    type Place = (&'static str, &'static str);
    let places: [Place; 4] = [
        ("authorization", "Bearer abc"),
        ("query", "/?token=abc"),
        ("cookie", "session=abc"),
        ("sec-websocket-protocol", "app.v1, bearer, abc"),
    ];
    let ask = |endpoint: &Endpoint, places: &[Place]| {
        let uri = places.iter().find(|place| place.0 == "query").map_or("/", |place| place.1);
        let more: Vec<_> = places.iter().copied().filter(|place| place.0 != "query").chain([APP]).collect();
        token(endpoint, uri, &more)
    };
    for (at, one) in places.iter().enumerate() {
        for other in &places[at + 1..] {
            assert_eq!(ask(&all(), &[*one, *other]), Err(Refusal::ManyTokens.to_string()), "{one:?} {other:?}");
        }
    }
    for empty in ["Bearer", "Bearer "] {
        let two = ask(&all(), &[("authorization", empty), ("query", "/?token=abc")]);
        assert_eq!(two, Err(Refusal::ManyTokens.to_string()), "{empty:?}");
    }
    for twice in [
        [("cookie", "session=abc; session=abc"), APP],
        [("sec-websocket-protocol", "bearer, abc, bearer, abc"), APP],
        [("sec-websocket-protocol", "bearer, abc, app.v1, bearer, d"), APP],
    ] {
        assert_eq!(token(&all(), "/", &twice), Err(Refusal::ManyTokens.to_string()), "{twice:?}");
    }
    // Every source alone, with tokens in all the places.
    let off = || Endpoint::new().without_header_token().origins(["https://app.example"]).unwrap();
    for endpoint in
        [Endpoint::new(), off().query_token("token"), off().cookie_token("session"), off().protocol_token("app.v1")]
    {
        let endpoint = endpoint.origins(["https://app.example"]).unwrap();
        assert_eq!(ask(&endpoint, &places), Ok(Some("abc".into())), "{endpoint:?}");
    }
    assert_eq!(ask(&off(), &places), Ok(None));
}

#[test]
fn the_answer_names_the_applications_protocol_and_never_the_token() {
    let answer = |endpoint: &Endpoint, offered: &str| {
        let handshake = read(endpoint, "/", &[APP, ("sec-websocket-protocol", offered)]).unwrap();
        handshake.response().headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned())
    };
    let two = all().protocol_token("app.v2");
    for (offered, answered) in [
        ("app.v1, bearer, abc", Some("app.v1")),
        ("app.v2, app.v1, bearer, abc", Some("app.v2")),
        ("app.v1, app.v2", Some("app.v1")),
        ("app.v2, bearer, app.v1", Some("app.v2")),
        ("bearer, app.v1", None),
        ("bearer", None),
        ("bearer, abc", None),
        ("APP.V1, bearer, abc", None),
        ("app.v1", Some("app.v1")),
        ("other", None),
    ] {
        assert_eq!(answer(&two, offered).as_deref(), answered, "{offered}");
    }
    assert_eq!(answer(&Endpoint::new().origins(["https://app.example"]).unwrap(), "app.v1, bearer, abc"), None);
}

#[test]
fn a_subprotocol_is_chosen_by_the_order_of_the_client_or_required() {
    let endpoint = Endpoint::new().subprotocols(["v1", "v2"]).subprotocols(["v2", "v3"]);
    let chosen = |endpoint: &Endpoint, offers: &[&str]| {
        let offers: Vec<_> = offers.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
        read(endpoint, "/", &offers).map(|handshake| handshake.subprotocol().map(str::to_owned))
    };
    let required = endpoint.clone().require_subprotocol();
    for (offers, answered) in [
        (&["v2, v1"][..], "v2"),
        (&["v1,v2"], "v1"),
        (&["other, v3", "v1"], "v3"),
        (&["other", "v2, v2"], "v2"),
        (&["\"v1\", v2"], "v2"),
        (&[",, ,v3"], "v3"),
    ] {
        for endpoint in [&endpoint, &required] {
            assert_eq!(chosen(endpoint, offers), Ok(Some(answered.to_owned())), "{offers:?}");
        }
    }
    let long = "v, ".repeat(1_300);
    for none in [&[][..], &[""], &["V1"], &["v1;q=1"], &["v1 v2"], &["bearer, v1"], &[&*long]] {
        assert_eq!(chosen(&endpoint, none), Ok(None), "{none:?}");
        let refusal = chosen(&required, none).unwrap_err();
        let response = refusal.response();
        assert_eq!(response.status(), 400, "{none:?}");
        assert_eq!(response.body(), "offer one of these in `Sec-WebSocket-Protocol`: v1, v2, v3");
    }
    let check = Endpoint::new().require_subprotocol().check();
    assert_eq!(check, Err(EndpointError::NoProtocol));
    for bad in ["", "bearer", "v 1", "v1,v2", "\r\n"] {
        assert!(matches!(Endpoint::new().subprotocols([bad]).check(), Err(EndpointError::Protocol(_))), "{bad:?}");
    }
    let opening = Opening::EventStream(&Method::GET);
    let stream = Handshake::read(&required, opening, &"/".parse().unwrap(), &headers(&[])).unwrap();
    assert_eq!(stream.subprotocol(), None, "an event stream has none, and is not refused for it");
}

#[tokio::test]
async fn a_cookie_needs_a_list_of_pages() {
    let cookie = || Endpoint::new().cookie_token("session");
    for open in [cookie(), cookie().any_origin()] {
        assert_eq!(open.check(), Err(EndpointError::CookieWithoutOrigins));
        let built = RoomManager::builder().endpoint(open.clone()).build();
        assert_eq!(built.unwrap_err(), BuildError::Endpoint(EndpointError::CookieWithoutOrigins));
        // At a route of its own.
        let refusal = read(&open, "/", &[("origin", "https://rooms.example"), ("cookie", "session=abc")]).unwrap_err();
        assert_eq!((refusal.clone(), refusal.response().status().as_u16()), (Refusal::Misconfigured, 500));
    }
    let listed = cookie().origins(["https://app.example"]).unwrap();
    RoomManager::builder().endpoint(listed.clone()).build().unwrap();
    let with_cookie = ("cookie", "session=abc");
    assert!(read(&listed, "/", &[APP, with_cookie]).is_ok());
    for foreign in [
        "https://evil.example",
        "null",
        "file://",
        "",
        "https://app.example.evil.example",
        "https://xapp.example",
        "http://app.example",
        "https://app.example:444",
        "https://app.example/",
        "https://app.example@evil.example",
        "https://rooms.example",
    ] {
        let refused = read(&listed, "/", &[("origin", foreign), with_cookie]).err();
        assert_eq!(refused, Some(Refusal::Origin), "{foreign}");
    }
    assert_eq!(read(&listed, "/", &[with_cookie]).err(), Some(Refusal::Origin), "no browser, and whose cookie?");
    assert_eq!(read(&listed, "/", &[APP, APP, with_cookie]).err(), Some(Refusal::Origin));
    assert!(read(&listed, "/", &[("authorization", "Bearer abc")]).is_ok(), "a service has no origin");
}

#[test]
fn an_event_stream_of_an_own_page_has_a_cookie_and_no_origin() {
    let own = Endpoint::new().cookie_token("session").origins(["https://rooms.example"]).unwrap();
    let other = Endpoint::new().cookie_token("session").origins(["https://app.example"]).unwrap();
    let read = |endpoint: &Endpoint, more: &[(&str, &str)]| {
        let more = [&[("cookie", "session=abc")], more].concat();
        Handshake::read(endpoint, Opening::EventStream(&Method::GET), &"/events".parse().unwrap(), &headers(&more))
            .err()
    };
    assert_eq!(read(&own, &[("sec-fetch-site", "same-origin")]), None);
    for site in ["same-site", "cross-site", "none", ""] {
        assert_eq!(read(&own, &[("sec-fetch-site", site)]), Some(Refusal::Origin), "{site}");
    }
    assert_eq!(read(&own, &[]), Some(Refusal::Origin));
    assert_eq!(read(&other, &[("sec-fetch-site", "same-origin")]), Some(Refusal::Origin), "its pages are not listed");
    assert_eq!(read(&other, &[APP, ("sec-fetch-site", "cross-site")]), None);
}

#[test]
fn a_protocol_has_a_name() {
    for bad in ["", "bearer", "a b", "a,b", "é", "a\r\nx: y", "a/b"] {
        let check = Endpoint::new().protocol_token(bad).check();
        assert!(matches!(check, Err(EndpointError::Protocol(_))), "{bad:?}");
    }
    assert_eq!(Endpoint::new().protocol_token("app.v1+json").check(), Ok(()));
}

#[test]
fn origins_are_as_apps_have_them() {
    let endpoint = Endpoint::new()
        .origins([
            "capacitor://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://5d9a0bd0-6f3c-4f6a-9c1b-0a2b3c4d5e6f",
            "https://*.example.com",
            "http://*.dev.example.com:8080",
            "http://[::1]:3000",
        ])
        .unwrap();
    let allowed = |endpoint: &Endpoint, origin: &str| read(endpoint, "/", &[("origin", origin)]).is_ok();
    for good in [
        "capacitor://localhost",
        "tauri://localhost",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://5d9a0bd0-6f3c-4f6a-9c1b-0a2b3c4d5e6f",
        "https://a.example.com",
        "https://a.b.example.com",
        "https://A.Example.COM:443",
        "http://x.dev.example.com:8080",
        "http://[::1]:3000",
    ] {
        assert!(allowed(&endpoint, good), "{good}");
    }
    for bad in [
        "capacitor://localhost:1",
        "ionic://localhost",
        "http://localhost",
        "https://localhost",
        "chrome-extension://bbcdefghijklmnopabcdefghijklmnop",
        "https://example.com",
        "https://.example.com",
        "https://xexample.com",
        "https://a.example.com.evil.example",
        "https://evil.example/.example.com",
        "https://evil.example?.example.com",
        "https://evil.example#.example.com",
        "https://user@a.example.com",
        "https://a.example.com:8443",
        "http://a.example.com",
        "http://x.dev.example.com",
        "null",
        "NULL",
        "*",
        "https://*.example.com",
    ] {
        assert!(!allowed(&endpoint, bad), "{bad}");
    }
    let null = Endpoint::new().origins(["null"]).unwrap();
    assert!(allowed(&null, "null") && !allowed(&null, "https://rooms.example") && !allowed(&null, "Null"));
    let any = Endpoint::new().any_origin();
    assert!(allowed(&any, "null") && allowed(&any, "https://evil.example") && allowed(&any, "anything"));
    let asked = Endpoint::new().origins_by(|origin| origin == "https://a.example");
    assert!(allowed(&asked, "https://a.example") && !allowed(&asked, "https://b.example") && !allowed(&asked, "null"));
    for no_origin in [
        "*",
        "*.example.com",
        "https://*",
        "https://*.com",
        "https://*.*.com",
        "https://a.*.com",
        "https://**.example.com",
        "ws://app.example",
        "wss://app.example",
        "file://",
        "file://localhost",
        "capacitor://",
        "://localhost",
        "1a://localhost",
        "a b://localhost",
        "https://app.example/",
        "https://app.example:",
        "https://app.example:+80",
        "https://app.example:65536",
        "https://user@app.example",
        "https://[::1",
        "https://::1",
        "https://a[b]",
        "https://app.example https://b.example",
        "https://é.example",
        "Null",
        "",
    ] {
        assert!(Endpoint::new().origins([no_origin]).is_err(), "{no_origin}");
    }
}
