//! What is answered where, and how: a place in the queue first, then the picture, then the model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use smallvit::data::pictures;
use smallvit::models::file::ModelInfo;
use smallvit::models::look::{AttentionMap, Look};
use smallvit::report::picture::png;
use smallvit::{report, words};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use utoipa::OpenApi;

use super::Example;
use super::metrics::{Asked, Metrics};
use super::wire::{
    About, AboutExample, AboutView, Examples, Explanation, Failure, FailureText, Head, Layer,
    Likely, Models, Patch, Prediction, Rollout,
};
use crate::cli::explain::Seen;
use crate::cli::predict::{in_channels, likeliest};
use crate::cli::web::engine::{Engine, Job, Question};
use crate::cli::web::{self, Refusal};

/// What handlers share.
pub struct Shop {
    pub about: Vec<About>,
    pub infos: Vec<ModelInfo>,
    pub examples: Vec<Example>,
    pub engine: Engine,
    /// Places of requests that wait or are worked on.
    pub queue: Arc<Semaphore>,
    pub places: usize,
    /// Pictures that are decoded at a time.
    pub decoding: Arc<Semaphore>,
    pub most_bytes: usize,
    pub patience: Duration,
    pub metrics: Arc<Metrics>,
}

type Shared = State<Arc<Shop>>;
type Answer<T> = std::result::Result<T, Refusal>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "smallvit",
        description = "Ask image classifiers what is in pictures."
    ),
    paths(models, examples_list, example, predict, explain, health, metrics),
    components(schemas(Failure, FailureText))
)]
struct Interface;

/// What is answered where.
pub fn routes(shop: Arc<Shop>) -> Router {
    Router::new()
        .route(
            "/",
            get(|| {
                web::asset(
                    "text/html; charset=utf-8",
                    include_str!("../../../assets/pages/serve.html"),
                )
            }),
        )
        .route(
            "/assets/base.css",
            get(|| web::asset("text/css; charset=utf-8", report::page::BASE_STYLE)),
        )
        .route(
            "/assets/serve.css",
            get(|| {
                web::asset(
                    "text/css; charset=utf-8",
                    include_str!("../../../assets/pages/serve.css"),
                )
            }),
        )
        .route(
            "/assets/serve.js",
            get(|| {
                web::asset(
                    "text/javascript; charset=utf-8",
                    include_str!("../../../assets/pages/serve.js"),
                )
            }),
        )
        .route("/v1/models", get(models))
        .route("/v1/examples", get(examples_list))
        .route("/v1/examples/{file}", get(example))
        .route("/v1/predict", post(predict))
        .route("/v1/explain", post(explain))
        .route(
            "/openapi.json",
            get(|| async { Json(Interface::openapi()) }),
        )
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(shop.clone(), counted))
        .with_state(shop)
}

/// Counts a request.
async fn counted(State(shop): Shared, request: Request, next: Next) -> Response {
    const KNOWN: [&str; 4] = ["/v1/models", "/v1/examples", "/v1/predict", "/v1/explain"];
    let path = request.uri().path();
    // A path that anybody makes up would fill the memory.
    let path = KNOWN
        .into_iter()
        .find(|known| path == *known)
        .unwrap_or("other");
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let asked = Asked {
        path: path.to_owned(),
        status,
    };
    shop.metrics.requests.get_or_create(&asked).inc();
    response
}

/// The models that are served.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models)))]
async fn models(State(shop): Shared) -> Json<Models> {
    let models = shop.about.clone();
    Json(Models { models })
}

/// Pictures to try the models on.
#[utoipa::path(get, path = "/v1/examples", responses((status = 200, body = Examples)))]
async fn examples_list(State(shop): Shared) -> Json<Examples> {
    let about = |(id, example): (usize, &Example)| AboutExample {
        id,
        class: example.class.clone(),
        url: format!("/v1/examples/{id}.png"),
    };
    let examples = shop.examples.iter().enumerate().map(about).collect();
    Json(Examples { examples })
}

/// An example picture.
#[utoipa::path(get, path = "/v1/examples/{file}", params(("file" = String, Path, description = "Its id, and .png")),
    responses((status = 200, content_type = "image/png", body = Vec<u8>), (status = 404, body = Failure)))]
async fn example(State(shop): Shared, Path(file): Path<String>) -> Answer<Response> {
    let number = file
        .strip_suffix(".png")
        .and_then(|number| number.parse::<usize>().ok());
    let example = number.and_then(|number| shop.examples.get(number));
    let Some(example) = example else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such example",
        ));
    };
    Ok(([(header::CONTENT_TYPE, "image/png")], example.png.clone()).into_response())
}

/// What a question says beside the picture.
#[derive(Deserialize)]
struct Asking {
    model: Option<String>,
    top: Option<usize>,
}

/// The likeliest classes of a picture.
///
/// The body is the picture's file: PNG, JPEG, WebP, BMP or GIF. Pictures that come at the same time go through the model
/// together; a probability's seventh digit may depend on how many there are.
#[utoipa::path(post, path = "/v1/predict",
    params(("model" = Option<String>, Query, description = "The model's id; needed where there are several"),
           ("top" = Option<usize>, Query, description = "How many classes; 5 unless said otherwise")),
    request_body(content = Vec<u8>, content_type = "image/*"),
    responses((status = 200, body = Prediction), (status = 400, body = Failure), (status = 404, body = Failure),
        (status = 408, body = Failure), (status = 413, body = Failure), (status = 415, body = Failure),
        (status = 422, body = Failure), (status = 429, body = Failure, description = "Come again after Retry-After seconds")))]
async fn predict(
    State(shop): Shared,
    about: std::result::Result<Query<Asking>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Prediction>> {
    let began = Instant::now();
    let (about, model, place, body) = shop.enter(about, &headers, body).await?;
    let info = shop.infos[model].clone();
    let (input, place) = shop
        .decoded(place, body, move |bytes| {
            let pixels = pixels(&bytes, &info)?;
            let preprocess = info.preprocess();
            let mut input = vec![0.0; preprocess.output_len()];
            preprocess.apply(&pixels, &mut input);
            Ok(input)
        })
        .await?;
    let (reply, answer) = oneshot::channel();
    let question = Question::Logits(input, reply);
    shop.engine.ask(Job {
        model,
        question,
        place,
    });
    let (logits, seconds) = answer.await.map_err(|_| gone())?;
    if !logits.iter().all(|logit| logit.is_finite()) {
        let message = "the model's answer is not a number";
        return Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "not_a_number",
            message,
        ));
    }
    shop.metrics.seconds.observe(began.elapsed().as_secs_f64());
    let classes = &shop.infos[model].classes;
    let likely = |(class, probability): (usize, f64)| Likely {
        class: classes[class].clone(),
        probability,
    };
    Ok(Json(Prediction {
        model: shop.about[model].id.clone(),
        likeliest: likeliest(&logits, about.top.unwrap_or(5))
            .into_iter()
            .map(likely)
            .collect(),
        milliseconds: 1000.0 * seconds,
    }))
}

/// Where a model looks in a picture, and what its tokens see.
///
/// The body is the picture's file, as of /v1/predict.
#[utoipa::path(post, path = "/v1/explain",
    params(("model" = Option<String>, Query, description = "The model's id; needed where there are several")),
    request_body(content = Vec<u8>, content_type = "image/*"),
    responses((status = 200, body = Explanation), (status = 400, body = Failure), (status = 404, body = Failure),
        (status = 408, body = Failure), (status = 413, body = Failure), (status = 415, body = Failure),
        (status = 422, body = Failure), (status = 429, body = Failure)))]
async fn explain(
    State(shop): Shared,
    about: std::result::Result<Query<Asking>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<Explanation>> {
    let (_, model, place, body) = shop.enter(about, &headers, body).await?;
    let info = shop.infos[model].clone();
    let (pixels, place) = shop
        .decoded(place, body, move |bytes| pixels(&bytes, &info))
        .await?;
    let (reply, answer) = oneshot::channel();
    let question = Question::Look(pixels, reply);
    shop.engine.ask(Job {
        model,
        question,
        place,
    });
    let (look, seen, place) = answer.await.map_err(|_| gone())?;
    let about = shop.about[model].clone();
    let info = shop.infos[model].clone();
    // It is a matter of megabytes for large models: not on a thread that others' requests wait for.
    let explained = tokio::task::spawn_blocking(move || {
        let _place = place;
        explanation(about, &info, &look, &seen)
    });
    explained.await.map_err(|_| gone())?.map(Json)
}

/// The engine has ended: a fault of the program.
fn gone() -> Refusal {
    let message = "the server's engine has stopped; please report it";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "engine", message)
}

impl Shop {
    /// What is asked of which model, and a place in the queue; before any byte of the picture is read. A picture
    /// that is refused is let pass by unseen, for clients that would not hear of it before they have sent it all.
    async fn enter(
        &self,
        about: std::result::Result<Query<Asking>, QueryRejection>,
        headers: &HeaderMap,
        body: Body,
    ) -> Answer<(Asking, usize, OwnedSemaphorePermit, Body)> {
        let asked = about
            .map_err(|problem| Refusal::new(StatusCode::BAD_REQUEST, "query", problem.body_text()));
        let entered = asked.and_then(|Query(about)| {
            let (model, place) = self.place(&about, headers)?;
            Ok((about, model, place))
        });
        match entered {
            Ok((about, model, place)) => Ok((about, model, place, body)),
            Err(refusal) => {
                pass_by(body).await;
                Err(refusal)
            }
        }
    }

    fn place(&self, about: &Asking, headers: &HeaderMap) -> Answer<(usize, OwnedSemaphorePermit)> {
        let model = match &about.model {
            Some(id) => self.about.iter().position(|known| known.id == *id),
            None if self.about.len() == 1 => Some(0),
            None => {
                let message = "say which model with ?model=ID; /v1/models lists them";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "model", message));
            }
        };
        let Some(model) = model else {
            let message = "there is no such model; /v1/models lists them";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "model", message));
        };
        if about.top == Some(0) {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "top",
                "top is 1 or more",
            ));
        }
        let kind = headers
            .get(header::CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap_or_default().to_ascii_lowercase());
        let is_picture =
            |kind: &str| kind.starts_with("image/") || kind.starts_with("application/octet-stream");
        if !kind.as_deref().is_none_or(is_picture) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_a_picture",
                "send the picture's file itself, as image/png or the like",
            ));
        }
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.most_bytes as u64) {
            return Err(self.too_large());
        }
        let place = self.queue.clone().try_acquire_owned().map_err(|_| {
            let message = "too many requests wait already; come again in a moment";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
        })?;
        Ok((model, place))
    }

    fn too_large(&self) -> Refusal {
        let most = words::bytes(self.most_bytes as u64);
        let message = format!("the file is too large: at most {most} are taken");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// Reads a picture's file in time, and makes of it what is to be made, on a thread for such work. That thread
    /// keeps the place in the queue: whoever asked may go, and the work is there all the same.
    async fn decoded<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        body: Body,
        make: impl FnOnce(Bytes) -> Answer<T> + Send + 'static,
    ) -> Answer<(T, OwnedSemaphorePermit)> {
        let read = Limited::new(body, self.most_bytes).collect();
        let bytes = match tokio::time::timeout(self.patience, read).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(self.too_large()),
            Ok(Err(_)) => {
                let message = "the picture broke off on its way";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "broken_off", message));
            }
            Err(_) => {
                let message = "the picture took too long to come";
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "too_slow",
                    message,
                ));
            }
        };
        let turn = self.decoding.clone().acquire_owned().await;
        let turn = turn.map_err(|_| gone())?;
        let work = move || {
            let _turn = turn;
            Ok((make(bytes)?, place))
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| gone())?
    }
}

/// Lets a body pass by, as long as it comes in time and is not endless.
async fn pass_by(mut body: Body) {
    const MOST: usize = 64 << 20;
    const PATIENCE: Duration = Duration::from_secs(2);
    let pass = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MOST {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, pass).await;
}

/// A picture's file → pixels of the size and with the channels of the model's training images.
fn pixels(bytes: &[u8], info: &ModelInfo) -> Answer<Vec<u8>> {
    if image::guess_format(bytes).is_err() {
        let message = "this is no picture: PNG, JPEG, WebP, BMP and GIF are read";
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_a_picture",
            message,
        ));
    }
    let image = pictures::decode_bytes(bytes, info.square()).map_err(|problem| {
        let message = format!("this picture cannot be read: {problem}");
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "unreadable", message)
    })?;
    Ok(in_channels(image, info))
}

fn explanation(about: About, info: &ModelInfo, look: &Look, seen: &Seen) -> Answer<Explanation> {
    let data_url = |pixels: &[u8]| {
        let bytes = png(pixels, [seen.size, seen.size, seen.channels]).map_err(|_| gone())?;
        Ok(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
    };
    let layer = |map: &AttentionMap| Layer {
        name: map.path.clone(),
        grid: map.grid,
        temperature: map.sharpness.clone(),
        borders: map.borders.clone(),
        of_class: map.of_class,
        heads: (0..map.heads)
            .map(|head| Head {
                received: map.received(Some(head)),
            })
            .collect(),
        maps: match map.of_class {
            true => String::new(),
            false => STANDARD.encode(maps(map)),
        },
    };
    let cut = info.config.cut();
    let views = info.config.spt.then(|| seen.views(cut, true));
    let view = |view: report::picture::token::View| {
        Ok(AboutView {
            image: data_url(&view.pixels)?,
            name: view.name,
        })
    };
    Ok(Explanation {
        model: about.id,
        image: data_url(&seen.pixels)?,
        image_size: seen.size,
        layers: look.layers.iter().map(layer).collect(),
        rollout: look.rollout().map(|values| Rollout {
            grid: look.layers[0].grid,
            values,
        }),
        views: views
            .map(|views| views.into_iter().map(view).collect::<Answer<_>>())
            .transpose()?,
        patch: Patch {
            size: cut.patch,
            grid: about.grid,
        },
    })
}

/// A byte a pair of tokens of the grid: 255 × the probability, as a part of its row's largest.
fn maps(map: &AttentionMap) -> Vec<u8> {
    let cells = map.grid[0] * map.grid[1];
    let mut bytes = Vec::with_capacity(map.heads * cells * cells);
    for head in 0..map.heads {
        for cell in 0..cells {
            let row = map.from(Some(head), map.before + cell);
            let most = row.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            bytes.extend(row.iter().map(|value| (255.0 * value / most).round() as u8));
        }
    }
    bytes
}

/// Whether the server lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String)))]
async fn health() -> &'static str {
    "ok\n"
}

/// What the server does, in Prometheus' format.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String)))]
async fn metrics(State(shop): Shared) -> Answer<Response> {
    let waiting = shop.places - shop.queue.available_permits();
    shop.metrics.waiting.set(waiting as i64);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &shop.metrics.registry)
        .map_err(|_| gone())?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_bytes_of_the_grid_alone() {
        let map = AttentionMap {
            path: "a".into(),
            heads: 1,
            grid: [1, 2],
            before: 1,
            of_class: false,
            borders: vec![],
            sharpness: None,
            // Three tokens, the first the class token.
            values: vec![0.2, 0.4, 0.4, 0.5, 0.25, 0.25, 0.1, 0.6, 0.3],
        };
        // 0.3 / 0.6 is just below a half in single precision.
        assert_eq!(maps(&map), [255, 255, 255, 127]);
    }

    #[test]
    fn what_the_interface_has_is_described() {
        let described = serde_json::to_value(Interface::openapi()).unwrap();
        for path in [
            "/v1/models",
            "/v1/predict",
            "/v1/explain",
            "/v1/examples",
            "/healthz",
            "/metrics",
        ] {
            assert!(described["paths"][path].is_object(), "{path}");
        }
        assert!(
            described["components"]["schemas"]["Prediction"]["properties"]["likeliest"].is_object()
        );
    }
}
