//! Connections, and what is answered on them.

use super::About;
use super::audit::audit;
use super::board::{Board, Cursor};
use super::guard::Guard;
use super::health::Health;
use super::metrics::{self, Own, metrics};
use super::page::PAGE;
use crate::pipeline::live::Picture;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{Stream, unfold};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections at the same time. More are closed unanswered: some dozen people and programs look at a run.
const MOST_CONNECTIONS: usize = 128;

/// Of these, those that follow the run.
const MOST_FOLLOWERS: usize = 32;

/// Whole audits under way at the same time; each may take tens of MiB.
const MOST_AUDITS: usize = 2;

/// Bytes of an audit that are handed over at once.
const PIECE_BYTES: usize = 64 << 10;

/// Within this time a request has to be there as a whole.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// Within this time an answer that ends has to be taken.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of a request, at the most, its headers, and how many these are.
const MOST_REQUEST_BYTES: usize = 16 << 10;
const MOST_HEADERS: usize = 64;

/// Who follows a silent run hears that it is there: proxies close connections that are silent for a minute.
const HEARTBEAT: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(15) };

/// Who takes nothing for so long is gone, or as good as gone.
const GONE_AFTER: Duration = Duration::from_secs(60);

/// How long an ending run waits for those who follow it to be told its last picture.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// What all connections share.
struct Shared {
    board: Mutex<Board>,
    guard: Guard,
    /// Told when the board has changed.
    changed: watch::Sender<()>,
    ending: watch::Receiver<bool>,
    began: Instant,
    connections: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    audits: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> Health {
        Health::of(&self.board(), self.began, Instant::now())
    }

    fn own(&self) -> Own {
        Own {
            connections: MOST_CONNECTIONS - self.connections.available_permits(),
            followers: MOST_FOLLOWERS - self.followers.available_permits(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// When a connection was last seen to take something, and whether it follows the run.
#[derive(Clone, Default)]
struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that stands since `began` is to be given up.
    fn is_gone(&self, began: Instant) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(last) => last.elapsed() > GONE_AFTER,
            None => began.elapsed() > ANSWER_WITHIN,
        }
    }
}

/// Answers until `ending` is true.
pub(super) async fn serve(
    listener: TcpListener,
    guard: Guard,
    pictures: watch::Receiver<Arc<Picture>>,
    abouts: watch::Receiver<About>,
    ending: watch::Receiver<bool>,
) {
    let shared = Arc::new(Shared {
        board: Mutex::default(),
        guard,
        changed: watch::Sender::new(()),
        ending: ending.clone(),
        began: Instant::now(),
        connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        audits: Arc::new(Semaphore::new(MOST_AUDITS)),
        refused: AtomicU64::new(0),
    });
    tokio::spawn(keep(Arc::clone(&shared), pictures, abouts));
    let router = router(&shared);
    let mut end = ending;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match Arc::clone(&shared.connections).try_acquire_owned() {
                    Ok(place) => drop(tokio::spawn(answer(stream, router.clone(), place))),
                    Err(_) => {
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                    }
                },
                // Of one connection, or for want of descriptors: both pass.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            ended = end.wait_for(|ending| *ending) => {
                drop(ended);
                break;
            }
        }
    }
    drop(listener);
    let everybody = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
    let gone = shared.connections.acquire_many(everybody);
    // Whoever is still there then has been waited for long enough.
    let _ = tokio::time::timeout(TOLD_WITHIN, gone).await;
}

/// Keeps the board as it is.
async fn keep(
    shared: Arc<Shared>,
    mut pictures: watch::Receiver<Arc<Picture>>,
    mut abouts: watch::Receiver<About>,
) {
    abouts.mark_changed();
    pictures.mark_changed();
    loop {
        let more = tokio::select! {
            biased;
            more = abouts.changed() => {
                let about = abouts.borrow_and_update().clone();
                shared.board().set_about(about);
                more
            }
            more = pictures.changed() => {
                let picture = Arc::clone(&pictures.borrow_and_update());
                // The one before the first says nothing.
                if picture.serial > 0 {
                    shared.board().take(picture);
                    shared.changed.send_replace(());
                }
                more
            }
        };
        if more.is_err() {
            return;
        }
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/audit.json", get(audit_json))
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .fallback(async || (StatusCode::NOT_FOUND, "There are: / /events /audit.json /metrics /healthz\n"))
        .layer(from_fn_with_state(Arc::clone(shared), admit))
        .with_state(Arc::clone(shared))
}

/// One connection: one request.
async fn answer(stream: TcpStream, router: Router, _place: OwnedSemaphorePermit) {
    let (pulse, began) = (Pulse::default(), Instant::now());
    // Events are small, and are to be seen at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.layer(Extension(pulse.clone())));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_REQUEST_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    loop {
        tokio::select! {
            // A client that goes away, or does not speak HTTP, is nobody's fault.
            _ = &mut connection => return,
            () = tokio::time::sleep(GONE_AFTER / 6) => if pulse.is_gone(began) { return },
        }
    }
}

/// Lets in who may ask, and says with every answer what a browser may do with it.
async fn admit(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (mut response, cookie) = match shared.guard.admit(&request) {
        Ok(admitted) => (next.run(request).await, admitted.cookie),
        Err(refused) => ((refused.status(), refused.words()).into_response(), None),
    };
    let status = response.status();
    let headers = response.headers_mut();
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
        (header::CONTENT_SECURITY_POLICY, PAGE.policy.as_str()),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn typed(kind: &'static str, body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

fn too_many() -> Response {
    let later = [(header::RETRY_AFTER, "10")];
    (StatusCode::SERVICE_UNAVAILABLE, later, "Too many ask for this at the same time.\n").into_response()
}

async fn page() -> Response {
    typed("text/html; charset=utf-8", PAGE.html.as_str())
}

async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(pulse): Extension<Pulse>,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = Arc::clone(&shared.followers).try_acquire_owned() else { return too_many() };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let cursor = last.and_then(|id| id.parse().ok()).unwrap_or_default();
    Sse::new(follow(shared, cursor, pulse, place)).into_response()
}

/// What changes after what a client has. The next event is made when the last one was taken.
fn follow(
    shared: Arc<Shared>,
    cursor: Cursor,
    pulse: Pulse,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let (changed, ending) = (shared.changed.subscribe(), shared.ending.clone());
    let begin = (cursor, true, changed, ending, place);
    unfold(begin, move |(mut cursor, mut first, mut changed, mut ending, place)| {
        let (shared, pulse) = (Arc::clone(&shared), pulse.clone());
        async move {
            loop {
                pulse.beat();
                changed.mark_unchanged();
                let told = shared.board().after(&cursor, first);
                let event = if let Some(told) = told {
                    cursor = told.cursor;
                    let event = Event::default().id(cursor.to_string()).data(told.json);
                    let again = Duration::from_secs(2);
                    if std::mem::take(&mut first) { event.retry(again) } else { event }
                } else if *ending.borrow() {
                    return None;
                } else {
                    tokio::select! {
                        // The board stands as long as anybody follows.
                        _ = changed.changed() => continue,
                        _ = ending.changed() => continue,
                        () = tokio::time::sleep(HEARTBEAT) => Event::default().comment("still here"),
                    }
                };
                return Some((Ok(event), (cursor, first, changed, ending, place)));
            }
        }
    })
}

async fn audit_json(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(place) = Arc::clone(&shared.audits).try_acquire_owned() else { return too_many() };
    let (about, picture) = {
        let board = shared.board();
        (board.about().clone(), Arc::clone(board.picture()))
    };
    let mut text = serde_json::to_vec(&audit(&about, &picture)).unwrap_or_default();
    text.push(b'\n');
    // The place is given back when the last byte is taken.
    let pieces = unfold((Bytes::from(text), place), async |(mut text, place)| {
        let piece = text.split_to(text.len().min(PIECE_BYTES));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (text, place)))
    });
    typed("application/json", Body::from_stream(pieces))
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    let (health, own) = (shared.health(), shared.own());
    let text = metrics(&shared.board(), &health, own);
    typed(metrics::CONTENT_TYPE, text)
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let health = shared.health();
    let status = if health.is_well() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut text = serde_json::to_string(&health).unwrap_or_default();
    text.push('\n');
    (status, typed("application/json", text)).into_response()
}
