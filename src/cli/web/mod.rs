//! What the program's pages are served by: where it listens, whom it answers, and how it ends.
//!
//! Only to this machine, unless more is asked for. A request's `Host` must be a name of this server, so that no
//! page of another site can reach it by a name of its own (DNS rebinding); what changes or costs something must
//! come from the server's own pages, or from no page. Headers and bodies have to come in time; connections are
//! counted. On SIGTERM or Ctrl-C no more are taken, and requests in flight are answered.

pub mod engine;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use smallvit::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use crate::cli::output::{self, note};

/// Connections at a time: those that come then wait to be taken.
const CONNECTIONS: usize = 800;
/// How long a client may take for a request's headers, and for reading some of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests in flight may take when the server is to end.
const LAST_WAIT: Duration = Duration::from_secs(30);

/// Where a page is served, and to whom.
#[derive(Args, Clone)]
pub struct ListenOptions {
    /// The address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    /// Listen on an address that other machines can reach. Nothing is encrypted: over a network that others
    /// share, put a proxy with TLS before it.
    #[arg(long)]
    allow_remote: bool,
    /// A name by which this server is reached, beside its addresses and localhost.
    #[arg(long, value_name = "NAME", requires = "allow_remote")]
    host: Vec<String>,
    /// Answer only those who know this word: as `Authorization: Bearer WORD`, or by opening the page once with
    /// ?token=WORD.
    #[arg(
        long,
        value_name = "WORD",
        env = "SMALLVIT_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
}

/// A request that is not met: what is said of it, as JSON.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            code,
            message,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let told = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, axum::Json(told)).into_response();
        let busy = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if busy.contains(&self.status) {
            let seconds = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// Whom the server answers.
struct Guard {
    options: ListenOptions,
    /// The digest of the word, which tells in the same time how like another one is.
    token: Option<[u8; 32]>,
}

/// What a page's address may give.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
}

/// The cookie in which a browser keeps the word.
const COOKIE: &str = "smallvit_token";

fn digest(word: &str) -> [u8; 32] {
    Sha256::digest(word).into()
}

impl Guard {
    /// Whether a `Host` is a name of this server.
    fn knows(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            // An address of version 6 has colons of its own, in brackets.
            Some((name, port)) if !port.ends_with(']') => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        if let Ok(address) = name.parse::<IpAddr>() {
            // No name, and so nothing that somebody else could let point here.
            return address.is_loopback() || self.options.allow_remote;
        }
        let names = &self.options.host;
        names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn check(&self, request: &Request) -> std::result::Result<(), Refusal> {
        let headers = request.headers();
        let host = text(headers, header::HOST).or(request.uri().authority().map(|a| a.as_str()));
        let Some(host) = host.filter(|host| self.knows(host)) else {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "host",
                "this server is not known by that name; --host NAME makes it known",
            ));
        };
        if ![Method::GET, Method::HEAD].contains(request.method())
            && let Some(origin) = text(headers, header::ORIGIN)
        {
            let own = origin
                .split_once("://")
                .is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
            if !own {
                let message = "a page of another site may not ask this";
                return Err(Refusal::new(StatusCode::FORBIDDEN, "origin", message));
            }
        }
        match self.token {
            Some(expected) if request.uri().path() != "/healthz" => {
                let bearer = text(headers, header::AUTHORIZATION)
                    .and_then(|value| value.split_once(' '))
                    .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                    .map(|(_, word)| word.trim());
                let cookies = text(headers, header::COOKIE).unwrap_or_default().split(';');
                let cookie = cookies
                    .filter_map(|cookie| cookie.trim().split_once('='))
                    .find_map(|(name, word)| (name == COOKIE).then_some(word));
                let known = bearer.is_some_and(|word| digest(word) == expected)
                    || cookie.is_some_and(|word| word == hex(&expected));
                match known {
                    true => Ok(()),
                    false => Err(Refusal::new(
                        StatusCode::UNAUTHORIZED,
                        "token",
                        "this server wants a word: Authorization: Bearer WORD, or ?token=WORD once",
                    )),
                }
            }
            _ => Ok(()),
        }
    }

    /// Of a page opened with `?token=WORD`: the same page without it, and a cookie.
    fn signed_in(&self, uri: &Uri) -> Option<Response> {
        let Query(given) = Query::<Given>::try_from_uri(uri).ok()?;
        let word = given.token?;
        let expected = self.token.filter(|expected| digest(&word) == *expected)?;
        let cookie = format!(
            "{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/",
            hex(&expected)
        );
        let headers = [
            (header::SET_COOKIE, cookie),
            (header::LOCATION, uri.path().to_owned()),
        ];
        Some((StatusCode::SEE_OTHER, headers).into_response())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Asks who is there, and adds what browsers are to keep to.
async fn guarded(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let signed_in = match request.method() == Method::GET {
        true => guard.signed_in(request.uri()),
        false => None,
    };
    let mut response = match (guard.check(&request), signed_in) {
        (Err(refusal), None) => refusal.into_response(),
        (Err(refusal), Some(_)) if refusal.code != "token" => refusal.into_response(),
        (_, Some(response)) => response,
        (Ok(()), None) => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            header::HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let policy = HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
             connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        );
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A file that is a part of the program.
pub async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

impl ListenOptions {
    /// Refuses to be reached from elsewhere by mistake.
    pub fn check(&self) -> Result<()> {
        if self
            .token
            .as_deref()
            .is_some_and(|word| word.trim().is_empty())
        {
            return Err(Error::recipe(
                "--token",
                "an empty word keeps nobody out",
                "give one (or unset SMALLVIT_TOKEN)",
            ));
        }
        if self.listen.ip().is_loopback() || self.allow_remote {
            return Ok(());
        }
        Err(Error::recipe(
            "--listen",
            format!("other machines can reach {}", self.listen),
            "if that is meant, add --allow-remote, and a --token WORD",
        ))
    }

    /// Serves until a signal ends it. `what` is what is told of it, before the address.
    pub fn serve(&self, routes: Router, what: &str, stop: &AtomicBool) -> Result<()> {
        let guard = Arc::new(Guard {
            options: self.clone(),
            token: self.token.as_deref().map(digest),
        });
        let routes = routes
            .fallback(|| async {
                Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
            })
            .method_not_allowed_fallback(|| async {
                let message = "this is asked for in another way: see /openapi.json";
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
            })
            .layer(middleware::from_fn_with_state(guard, guarded));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Error::io("start", "the server"))?;
        let ended = runtime.block_on(self.accept(routes, what, stop));
        // What still decodes a picture need not be waited for.
        runtime.shutdown_timeout(Duration::from_secs(1));
        ended
    }

    async fn accept(&self, routes: Router, what: &str, stop: &AtomicBool) -> Result<()> {
        let listener = TcpListener::bind(self.listen).await.map_err(|source| {
            let error = Error::io("listen on", self.listen.to_string())(source);
            crate::cli::hints::and(error, "give another --listen ADDRESS:PORT")
        })?;
        let address = listener
            .local_addr()
            .map_err(Error::io("listen on", "a port"))?;
        output::print(format!("{what} at http://{address}/"));
        if self.allow_remote && self.token.is_none() {
            note!("whoever can reach {address} can use it; --token WORD asks for a word");
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let ending = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::pin!(ending);
        loop {
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
                () = &mut ending => break,
            };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    // The client has gone, or files have run out: others are not to suffer.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                },
                () = &mut ending => break,
            };
            let _ = stream.set_nodelay(true);
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(PATIENCE));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(64 << 10)
                .serve_connection(
                    TokioIo::new(Box::pin(stream)),
                    TowerToHyperService::new(routes.clone()),
                );
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // An error is the client's, who is not there to hear it.
                let _ = connection.await;
                drop(place);
            });
        }
        drop(listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = tokio::time::sleep(LAST_WAIT) => note!("some clients were too slow"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow_remote: bool, token: Option<&str>) -> Guard {
        Guard {
            options: ListenOptions {
                listen: "127.0.0.1:0".parse().unwrap(),
                allow_remote,
                host: vec!["pictures.example".into()],
                token: token.map(str::to_owned),
            },
            token: token.map(digest),
        }
    }

    #[test]
    fn a_server_is_known_by_its_own_names_only() {
        let here = guard(false, None);
        for name in [
            "localhost",
            "LocalHost:8100",
            "127.0.0.1:8100",
            "[::1]:8100",
            "[::1]",
        ] {
            assert!(here.knows(name), "{name}");
        }
        for name in [
            "evil.example",
            "evil.example:8100",
            "192.168.1.2",
            "localhost.evil.example",
            "",
        ] {
            assert!(!here.knows(name), "{name}");
        }
        let there = guard(true, None);
        assert!(there.knows("192.168.1.2:80") && there.knows("pictures.example"));
        assert!(!there.knows("evil.example"));
    }

    fn asked(guard: &Guard, method: Method, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri("/v1/predict");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        guard
            .check(&request)
            .map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn other_sites_pages_are_refused_and_programs_are_not() {
        let guard = guard(false, None);
        let host = ("host", "127.0.0.1:8100");
        assert_eq!(asked(&guard, Method::POST, &[host]), 200);
        let own = ("origin", "http://127.0.0.1:8100");
        assert_eq!(asked(&guard, Method::POST, &[host, own]), 200);
        let other = ("origin", "http://evil.example");
        assert_eq!(asked(&guard, Method::POST, &[host, other]), 403);
        assert_eq!(
            asked(&guard, Method::POST, &[host, ("origin", "null")]),
            403
        );
        assert_eq!(asked(&guard, Method::GET, &[("host", "evil.example")]), 403);
        assert_eq!(asked(&guard, Method::GET, &[]), 403);
    }

    #[test]
    fn a_word_is_asked_for_and_kept_by_browsers() {
        let guard = guard(false, Some("sesame"));
        let host = ("host", "localhost");
        assert_eq!(asked(&guard, Method::GET, &[host]), 401);
        let wrong = ("authorization", "Bearer simsim");
        assert_eq!(asked(&guard, Method::GET, &[host, wrong]), 401);
        let right = ("authorization", "Bearer sesame");
        assert_eq!(asked(&guard, Method::GET, &[host, right]), 200);
        let response = guard.signed_in(&"/?token=sesame".parse().unwrap()).unwrap();
        let cookie = response.headers()[header::SET_COOKIE]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(asked(&guard, Method::GET, &[host, ("cookie", cookie)]), 200);
        assert!(
            guard
                .signed_in(&"/?token=simsim".parse().unwrap())
                .is_none()
        );
    }

    #[test]
    fn other_machines_are_let_in_only_where_that_is_meant() {
        let mut options = guard(false, None).options;
        options.check().unwrap();
        options.listen = "0.0.0.0:8100".parse().unwrap();
        let error = options.check().unwrap_err();
        assert!(error.remedy().contains("--allow-remote"));
        options.allow_remote = true;
        options.check().unwrap();
    }
}
