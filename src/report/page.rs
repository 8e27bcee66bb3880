//! A run's or a comparison's page: one HTML file that asks nothing of any network.
//!
//! Its style and script lie in `assets/pages`. Without the script everything is there to be read; the script adds
//! values under the pointer, sorting, filtering and switches.

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::picture::curves::{self, Axis, Panel, Stroke};
use super::picture::sheet::SheetImage;
use super::picture::{Picture, png};
use crate::error::Result;
use crate::words;

/// The style that all pages share.
pub const BASE_STYLE: &str = include_str!("../../assets/pages/base.css");
const STYLE: &str = include_str!("../../assets/pages/report.css");
const SCRIPT: &str = include_str!("../../assets/pages/report.js");
const WATCH: &str = include_str!("../../assets/pages/watch.js");

/// All that a page shows; what is empty or none is left out.
#[derive(Default)]
pub struct Report {
    /// What it is of.
    pub title: String,
    /// What came out, in a sentence or two.
    pub finding: String,
    /// What else is to be known, as (what, value).
    pub facts: Vec<(String, String)>,
    /// A row a model.
    pub results: Table,
    /// Each seed's accuracy, and what is said below it.
    pub seeds: Option<(Picture, String)>,
    /// The first of the charts are drawn larger.
    pub charts: Vec<Panel>,
    /// How many of them.
    pub large_charts: usize,
    /// Of which runs the charts are.
    pub charts_note: String,
    /// Why the validation loss may lie below the training loss, in sentences.
    pub why_lower: Vec<String>,
    /// Class by class.
    pub classes: Option<Classes>,
    /// A confusion matrix a model.
    pub confusion: Vec<Drawn>,
    /// How far confidence can be trusted, a picture a model.
    pub reliability: Vec<Drawn>,
    /// The worst mistakes.
    pub mistakes: Option<Mistakes>,
    /// What a token sees, and what is said below it.
    pub token: Option<(Picture, String)>,
    /// The temperatures that Locality Self-Attention has learned.
    pub temperatures: Vec<Temperatures>,
    /// How it was made.
    pub recipe: Option<Recipe>,
    /// The last line.
    pub footer: String,
}

/// A table whose first column names its rows.
#[derive(Default)]
pub struct Table {
    /// The other columns.
    pub header: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
    /// What is said below it.
    pub caption: String,
}

/// A model in a table.
pub struct Row {
    /// Its name.
    pub model: Model,
    /// A cell a column.
    pub cells: Vec<Cell>,
}

/// A name and its colour.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name.
    pub name: String,
    /// Its number in the palette.
    pub colour: usize,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// The number, with its unit.
    pub text: String,
    /// How far off it may be; empty where that is not known.
    pub spread: String,
    /// Whether it is the best of its column.
    pub best: bool,
}

/// Class by class.
pub struct Classes {
    /// The models.
    pub models: Vec<Model>,
    /// A row a class.
    pub rows: Vec<Class>,
    /// What is said above it.
    pub note: String,
}

/// A class in the table.
pub struct Class {
    /// Its name.
    pub name: String,
    /// Its images.
    pub images: u64,
    /// Of each model: recall, precision and F1, in percent; not a number where they are of nothing.
    pub shares: Vec<[f64; 3]>,
}

/// A picture of a model.
pub struct Drawn {
    /// Which.
    pub model: Model,
    /// The picture.
    pub picture: Picture,
}

/// Images that a model was sure of, and wrong.
pub struct Mistakes {
    /// What is said above them.
    pub note: String,
    /// They.
    pub all: Vec<Mistake>,
}

/// An image that a model was sure of, and wrong.
pub struct Mistake {
    /// The image.
    pub image: SheetImage,
    /// The same under attention, where there is some.
    pub attention: Option<SheetImage>,
    /// Its number.
    pub number: u32,
    /// Its class.
    pub class: String,
    /// What it was taken for.
    pub answer: String,
    /// With which probability.
    pub confidence: f64,
}

/// What a model's attentions have learned.
pub struct Temperatures {
    /// Which model.
    pub model: Model,
    /// `[layer][head]`, in units of the plain 1 / √key_dim.
    pub sharpness: Vec<Vec<f64>>,
}

/// How something was made.
pub struct Recipe {
    /// The recipe that it differs from.
    pub base: String,
    /// The fields that differ: name, there, here.
    pub differences: Vec<(String, String, String)>,
    /// The command that makes it again, in parts that stay together.
    pub command: Vec<String>,
    /// The whole recipe.
    pub text: String,
}

/// A page of its own.
///
/// # Errors
///
/// If a picture cannot be drawn.
pub fn page(report: &Report) -> Result<String> {
    let policy = policy(SCRIPT, "'none'");
    Ok(whole(
        &report.title,
        main(report)?,
        &report.footer,
        SCRIPT,
        &policy,
    )
    .into_string())
}

/// What changes of a page while a run goes on: its `main` element.
///
/// # Errors
///
/// As [`page`].
pub fn fragment(report: &Report) -> Result<String> {
    Ok(main(report)?.into_string())
}

/// A `main` element for when there is nothing to show yet.
pub fn waiting(why: &str) -> String {
    let main = html! {
        main #report {
            header.top { h1 { "waiting for a run" } p.finding { "Nothing to show yet." } p.note { (why) } }
        }
    };
    main.into_string()
}

/// A page that renews its `main` element whenever the server says so: the page, and what its header
/// `Content-Security-Policy` has to be.
pub fn live(title: &str, main: String) -> (String, String) {
    let script = format!("{SCRIPT}\n{WATCH}");
    let footer = format!("Served by smallvit {}.", env!("CARGO_PKG_VERSION"));
    let policy = policy(&script, "'self'");
    let html = whole(title, PreEscaped(main), &footer, &script, &policy);
    (html.into_string(), policy)
}

/// Nothing but this script runs, and it fetches from there alone: what a name might smuggle in stays dead.
fn policy(script: &str, connects: &str) -> String {
    let hash = STANDARD.encode(Sha256::digest(script));
    format!(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hash}'; connect-src \
         {connects}; base-uri 'none'; form-action 'none'"
    )
}

/// A document around a page's `main` element, with this one script.
fn whole(title: &str, main: Markup, footer: &str, script: &str, policy: &str) -> Markup {
    let style = format!("{BASE_STYLE}\n{STYLE}");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                // One of its own, so that no browser asks for another.
                link rel="icon" href="data:,";
                style { (PreEscaped(style)) }
            }
            body {
                a.skip href="#results-title" { "Skip to the results" }
                (main)
                footer.page { p { (footer) } }
                script { (PreEscaped(script)) }
            }
        }
    }
}

fn main(report: &Report) -> Result<Markup> {
    let charts = charts(report)?;
    let mistakes = report
        .mistakes
        .as_ref()
        .filter(|mistakes| !mistakes.all.is_empty());
    let mistakes = mistakes.map(self::mistakes).transpose()?;
    // Name, heading, and what is below it; in the order of the page.
    let sections = [
        ("results", "Results", Some(results(report))),
        ("curves", "Curves", charts),
        ("classes", "Classes", report.classes.as_ref().map(classes)),
        ("confusion", "Confusion", confusion(&report.confusion)),
        (
            "reliability",
            "Confidence",
            reliability(&report.reliability),
        ),
        ("mistakes", "Most confident mistakes", mistakes),
        (
            "token",
            "What a token sees",
            report.token.as_ref().map(token),
        ),
        (
            "temperatures",
            "Learned temperatures",
            temperatures(&report.temperatures),
        ),
        ("recipe", "Recipe", report.recipe.as_ref().map(recipe)),
    ];
    let sections: Vec<(&str, &str, Markup)> = sections
        .into_iter()
        .filter_map(|(id, heading, inside)| Some((id, heading, inside?)))
        .collect();
    Ok(html! {
        main #report {
            header.top {
                h1 { (report.title) }
                p.finding { (report.finding) }
                ul.facts {
                    @for (what, value) in &report.facts { li { (what) " " b { (value) } } }
                }
                nav.contents aria-label="Sections" {
                    ul {
                        @for (id, heading, _) in &sections {
                            li { a href={ "#" (id) } { (heading) } }
                        }
                    }
                }
            }
            @for (id, heading, inside) in &sections {
                section id=(id) class=[styled(id)] aria-labelledby={ (id) "-title" } {
                    h2 id={ (id) "-title" } tabindex="-1" { (heading) }
                    (inside)
                }
            }
        }
    })
}

/// The class of a section that has a style of its own.
fn styled(id: &str) -> Option<&str> {
    ["curves", "recipe"].contains(&id).then_some(id)
}

/// A colour's place in the palette, for a style.
fn colour(number: usize) -> String {
    format!("--c:var(--series-{})", number % 7)
}

fn named(model: &Model) -> Markup {
    html! {
        span.swatch style=(colour(model.colour)) aria-hidden="true" {}
        (model.name)
    }
}

/// A box that scrolls to the side where what is in it is wider than the page.
fn scrolling(id: &str, label: &str, inside: Markup) -> Markup {
    html! { div.scroll id=(id) role="group" aria-label=(label) { (inside) } }
}

fn results(report: &Report) -> Markup {
    let Table {
        header,
        rows,
        caption,
    } = &report.results;
    let table = html! {
        table.results {
            caption { (caption) }
            thead { tr {
                th scope="col" { "model" }
                @for heading in header { th.number scope="col" { (heading) } }
            } }
            tbody {
                @for row in rows { tr {
                    th scope="row" { (named(&row.model)) }
                    @for cell in &row.cells {
                        td.number.best[cell.best] {
                            (cell.text)
                            @if !cell.spread.is_empty() { " " span.spread { (cell.spread) } }
                        }
                    }
                } }
            }
        }
    };
    html! {
        (scrolling("results-box", "Results", table))
        @if let Some((picture, said)) = &report.seeds {
            figure.drawn.seeds {
                (PreEscaped(picture.themed_svg()))
                figcaption { (said) }
            }
        }
    }
}

/// What a line of a chart is, beside its model.
fn kind(panel: &Panel, stroke: Stroke) -> &'static str {
    let both = |stroke| panel.series.iter().any(|series| series.stroke == stroke);
    match stroke {
        _ if !(both(Stroke::Solid) && both(Stroke::Dashed)) => "",
        Stroke::Solid => "validation",
        Stroke::Dashed => "training",
    }
}

fn charts(report: &Report) -> Result<Option<Markup>> {
    if report.charts.is_empty() {
        return Ok(None);
    }
    let (mut drawn, mut values) = (vec![], vec![]);
    // What may be switched on and off: key, model, its colour, and whether it is dashed.
    let mut keys: Vec<(String, String, usize, bool)> = vec![];
    for panel in &report.charts {
        let plotted = curves::plotted(panel)?;
        let series = panel.series.iter().map(|series| {
            let dashed = series.stroke == Stroke::Dashed;
            let kind = kind(panel, series.stroke);
            // A chart of one line a model is seen while any of the model's lines is.
            let key = match kind {
                "" => series.label.clone(),
                kind => format!("{}/{kind}", series.label),
            };
            if !kind.is_empty() && !keys.iter().any(|known| known.0 == key) {
                keys.push((key.clone(), series.label.clone(), series.colour, dashed));
            }
            json!({
                "label": series.label, "kind": kind, "key": key, "colour": series.colour % 7,
                "dashed": dashed,
                "points": series.points.iter().filter(|p| p.1.is_finite()).collect::<Vec<_>>(),
            })
        });
        let unit = if panel.y_axis == Axis::Percent {
            " %"
        } else {
            ""
        };
        let [left, top, right, bottom] = plotted.plot;
        values.push(json!({
            "title": panel.title, "x_label": panel.x_label, "unit": unit,
            "plot": { "left": left, "top": top, "right": right, "bottom": bottom },
            "x": plotted.x, "y": plotted.y, "series": series.collect::<Vec<_>>(),
        }));
        drawn.push((panel.title.as_str(), plotted.picture.themed_svg()));
    }
    let chart = |(number, (title, svg)): &(usize, (&str, String))| {
        html! {
            figure.chart tabindex="0" data-chart=(number) {
                figcaption { (title) }
                (PreEscaped(svg))
            }
        }
    };
    let drawn: Vec<_> = drawn.into_iter().enumerate().collect();
    let (large, small) = drawn.split_at(report.large_charts.min(drawn.len()));
    // Within a script element nothing but its end is read as HTML.
    let values = json!({ "charts": values })
        .to_string()
        .replace('<', "\\u003c");
    Ok(Some(html! {
        @if !report.charts_note.is_empty() { p.note { (report.charts_note) } }
        ul.legend aria-label="Lines" {
            @for (key, label, colour, dashed) in &keys {
                li data-key=(key) {
                    svg.stroke viewBox="0 0 26 10" aria-hidden="true" {
                        line x1="1" y1="5" x2="25" y2="5" stroke={ "var(--series-" (colour % 7) ")" }
                            stroke-width="2.5" stroke-dasharray=[dashed.then_some("6 3")] {}
                    }
                    span { (label) " " (if *dashed { "training" } else { "validation" }) }
                }
            }
        }
        div.charts { @for each in large { (chart(each)) } }
        @if !small.is_empty() { div.charts.minor { @for each in small { (chart(each)) } } }
        script #charts type="application/json" { (PreEscaped(values)) }
        @if !report.why_lower.is_empty() {
            details.note #why-lower {
                summary { "Why may the validation loss lie under the training loss?" }
                p { @for sentence in &report.why_lower { (sentence) " " } }
            }
        }
    }))
}

fn classes(all: &Classes) -> Markup {
    // Those of which nothing is known come last: a NaN that was computed may have either sign.
    let mean = |class: &Class| {
        let recalls = class.shares.iter().map(|of| of[0]);
        let mean = recalls.sum::<f64>() / class.shares.len() as f64;
        if mean.is_nan() { f64::INFINITY } else { mean }
    };
    let mut rows: Vec<&Class> = all.rows.iter().collect();
    rows.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
    let share = |model: &Model, number: usize, share: f64| {
        let first = number == 0;
        html! {
            @if share.is_finite() {
                td.number.share.first[first] data-value={ (format!("{:.4}", share / 100.0)) }
                    style={ (colour(model.colour)) (format!(";--share:{:.3}", share / 100.0)) } {
                    (format!("{share:.1}"))
                }
            } @else {
                td.number.first[first] data-value="" { "–" }
            }
        }
    };
    let table = html! {
        table.classes #class-table data-sortable {
            thead {
                tr {
                    td colspan="2" {}
                    @for model in &all.models { th scope="colgroup" colspan="3" { (named(model)) } }
                }
                tr {
                    th scope="col" data-sort="text" data-column="class" { "class" }
                    th.number scope="col" data-sort="number" data-column="images" { "images" }
                    @for model in &all.models {
                        @for (number, heading) in ["recall", "precision", "F1"].into_iter().enumerate() {
                            th.number.first[number == 0] scope="col" data-sort="number"
                                data-column={ (model.name) "/" (heading) } { (heading) }
                        }
                    }
                }
            }
            tbody {
                @for class in rows { tr {
                    th scope="row" { bdi { (class.name) } }
                    td.number data-value=(class.images) { (words::count(class.images)) }
                    @for (model, shares) in all.models.iter().zip(&class.shares) {
                        @for (number, value) in shares.iter().enumerate() { (share(model, number, *value)) }
                    }
                } }
            }
        }
    };
    html! {
        p.note { (all.note) }
        div.tools data-tools="class-table" {}
        div.scroll.classes-box #classes-box role="group" aria-label="Classes" { (table) }
    }
}

fn confusion(all: &[Drawn]) -> Option<Markup> {
    if all.is_empty() {
        return None;
    }
    let figure = |(number, of): (usize, &Drawn)| {
        let (width, _) = of.picture.size();
        let label = format!("Confusion matrix of {}", of.model.name);
        let id = format!("confusion-{number}");
        html! {
            figure.drawn.confusion id=(id) data-tab=(of.model.name) {
                h3 { (named(&of.model)) }
                div.scroll id={ (id) "-box" } role="group" aria-label=(label) {
                    div.plot-box style={ "--wide:" (width) "px;--least:" (width.min(1100) * 3 / 5) "px" } {
                        (PreEscaped(of.picture.themed_svg()))
                    }
                }
            }
        }
    };
    Some(html! {
        p.note {
            "Rows are what an image is, columns what it was taken for. The colour is the share of its row, on a \
             square-root scale, so that rare confusions show."
        }
        div #confusion-tabs data-tabs data-label="Model" {
            @for each in all.iter().enumerate() { (figure(each)) }
        }
    })
}

fn reliability(all: &[Drawn]) -> Option<Markup> {
    (!all.is_empty()).then(|| html! {
        p.note {
            "How often answers are right that were given with a certain confidence. On the diagonal confidence could \
             be taken at its word; below it the model is surer than it should be. The bars show how many answers there \
             are."
        }
        div.charts.minor {
            @for of in all {
                figure.drawn { figcaption { (named(&of.model)) } (PreEscaped(of.picture.themed_svg())) }
            }
        }
    })
}

/// An image as part of the page.
fn data_url(image: &SheetImage) -> Result<String> {
    let bytes = png(&image.pixels, [image.height, image.width, image.channels])?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(bytes)))
}

fn mistakes(mistakes: &Mistakes) -> Result<Markup> {
    let mut cards = vec![];
    for mistake in &mistakes.all {
        let image = data_url(&mistake.image)?;
        let attention = mistake.attention.as_ref().map(data_url).transpose()?;
        cards.push(html! {
            li {
                div.pair {
                    img.pixels src=(image) width="112" height="112" alt={ "Test image " (mistake.number) };
                    @if let Some(attention) = attention {
                        img.pixels src=(attention) width="112" height="112" alt="The same with attention";
                    }
                }
                p {
                    "is " b { bdi { (mistake.class) } } ", taken for " b { bdi { (mistake.answer) } } " at "
                    (words::percent(mistake.confidence))
                }
                p.where { "test image " (mistake.number) }
            }
        });
    }
    Ok(html! {
        p.note { (mistakes.note) }
        ol.mistakes { @for card in cards { (card) } }
    })
}

fn token((picture, said): &(Picture, String)) -> Markup {
    let (width, _) = picture.size();
    html! {
        figure.drawn.token {
            div.scroll #token-box role="group" aria-label="What a token sees" {
                div.plot-box style={ "--wide:" (width) "px" } { (PreEscaped(picture.themed_svg())) }
            }
            figcaption { (said) }
        }
    }
}

fn temperatures(all: &[Temperatures]) -> Option<Markup> {
    let values = || {
        all.iter()
            .flat_map(|of| of.sharpness.iter().flatten().copied())
    };
    let (low, high) = values().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
    if low > high {
        return None;
    }
    // What hardly differs is not to look as if it did.
    let range = (high - low).max(0.1);
    let share = |value: f64| format!("--share:{:.2}", (value - low) / range);
    let table = |of: &Temperatures| {
        let heads = of.sharpness.iter().map(Vec::len).max().unwrap_or(0);
        html! {
            table.heat {
                caption { (named(&of.model)) }
                thead { tr {
                    th scope="col" { span.visually-hidden { "layer" } }
                    @for head in 1..=heads { th.number scope="col" { "head " (head) } }
                } }
                tbody {
                    @for (layer, heads) in (1..).zip(&of.sharpness) { tr {
                        th scope="row" { "layer " (layer) }
                        @for value in heads { td style=(share(*value)) { (format!("{value:.2}")) } }
                    } }
                }
            }
        }
    };
    Some(html! {
        p.note {
            "What Locality Self-Attention multiplies its scores by, in units of the plain 1 / √d of attention. Above \
             1 attention is sharper, below 1 more even. All began at 1.00."
        }
        div.heats {
            @for (number, of) in all.iter().enumerate() {
                (scrolling(&format!("heat-{number}"), &format!("Temperatures of {}", of.model.name), table(of)))
            }
        }
    })
}

fn recipe(recipe: &Recipe) -> Markup {
    let differences = html! {
        table {
            caption { "Differences to " code { (recipe.base) } "." }
            thead { tr {
                th scope="col" { "field" } th scope="col" { "there" } th scope="col" { "here" }
            } }
            tbody {
                @for (field, there, here) in &recipe.differences { tr {
                    th scope="row" { (field) } td { (there) } td { (here) }
                } }
            }
        }
    };
    html! {
        @if recipe.differences.is_empty() {
            p { "As " code { (recipe.base) } " has it." }
        } @else {
            (scrolling("recipe-box", "Differences", differences))
        }
        h3 { "Repeat it" }
        div.copyable data-copy="Copy the command" {
            pre { code {
                @for (number, part) in recipe.command.iter().enumerate() {
                    @if number > 0 { " " }
                    span.option { (part) }
                }
            } }
        }
        details #whole-recipe {
            summary { "The whole recipe" }
            div.copyable data-copy="Copy the recipe" { pre { code { (recipe.text) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::curves::Series;
    use super::*;

    const AWKWARD: &str = "</script><b>\"x\" & 'y'";

    fn full() -> Report {
        let model = Model {
            name: AWKWARD.into(),
            colour: 9,
        };
        let image = SheetImage {
            caption: String::new(),
            height: 2,
            width: 2,
            channels: 3,
            pixels: vec![7; 12],
            borders: vec![],
        };
        let line = |stroke| Series {
            label: AWKWARD.into(),
            points: vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0)],
            stroke,
            ..Series::default()
        };
        let panel = |series| Panel {
            title: AWKWARD.into(),
            series,
            ..Panel::default()
        };
        let picture = || curves::picture(&Default::default()).unwrap();
        Report {
            title: AWKWARD.into(),
            finding: AWKWARD.into(),
            facts: vec![("on".into(), AWKWARD.into())],
            results: Table {
                header: vec![AWKWARD.into()],
                rows: vec![Row {
                    model: model.clone(),
                    cells: vec![Cell {
                        text: "80.00 %".into(),
                        spread: "± 1".into(),
                        best: true,
                    }],
                }],
                caption: AWKWARD.into(),
            },
            seeds: Some((picture(), AWKWARD.into())),
            charts: vec![
                panel(vec![line(Stroke::Solid), line(Stroke::Dashed)]),
                panel(vec![line(Stroke::Solid)]),
            ],
            large_charts: 1,
            charts_note: AWKWARD.into(),
            why_lower: vec![AWKWARD.into()],
            classes: Some(Classes {
                models: vec![model.clone()],
                rows: [30.0, -f64::NAN, 20.0]
                    .map(|recall| Class {
                        name: format!("{AWKWARD}{recall}"),
                        images: 1234,
                        shares: vec![[recall, 50.0, f64::NAN]],
                    })
                    .into(),
                note: AWKWARD.into(),
            }),
            confusion: vec![Drawn {
                model: model.clone(),
                picture: picture(),
            }],
            reliability: vec![Drawn {
                model: model.clone(),
                picture: picture(),
            }],
            mistakes: Some(Mistakes {
                note: AWKWARD.into(),
                all: vec![Mistake {
                    image: image.clone(),
                    attention: Some(image),
                    number: 5,
                    class: AWKWARD.into(),
                    answer: AWKWARD.into(),
                    confidence: 0.981,
                }],
            }),
            token: Some((picture(), AWKWARD.into())),
            temperatures: vec![Temperatures {
                model,
                sharpness: vec![vec![1.0, 1.5]],
            }],
            recipe: Some(Recipe {
                base: AWKWARD.into(),
                differences: vec![(AWKWARD.into(), AWKWARD.into(), AWKWARD.into())],
                command: vec![AWKWARD.into()],
                text: AWKWARD.into(),
            }),
            footer: AWKWARD.into(),
        }
    }

    #[test]
    fn whatever_names_are_they_are_text() {
        let html = page(&full()).unwrap();
        assert!(!html.contains(AWKWARD) && !html.contains("<b>\"x"));
        // The style's and the script's own, and that of the values.
        assert_eq!(html.matches("</script>").count(), 2);
        assert!(html.contains("taken for <b><bdi>&lt;/script&gt;"));
        let (start, end) = ("id=\"charts\" type=\"application/json\">", "</script>");
        let values = html.split_once(start).unwrap().1.split_once(end).unwrap().0;
        let values: serde_json::Value = serde_json::from_str(values).unwrap();
        let series = &values["charts"][0]["series"];
        assert_eq!(series[0]["label"], AWKWARD);
        assert_eq!(series[1]["key"], format!("{AWKWARD}/training"));
        // A point that is no number is left out; a chart of one line a model goes with any of its lines.
        assert_eq!(
            series[0]["points"],
            serde_json::json!([[1.0, 2.0], [3.0, 1.0]])
        );
        assert_eq!(values["charts"][1]["series"][0]["key"], AWKWARD);
    }

    #[test]
    fn classes_come_worst_first_and_those_unknown_last() {
        let html = page(&full()).unwrap();
        let place = |recall: &str| {
            html.find(&format!("&#39;y&#39;{recall}</bdi>"))
                .or(html.find(&format!("'y'{recall}</bdi>")))
                .unwrap()
        };
        assert!(place("20") < place("30") && place("30") < place("NaN"));
    }

    #[test]
    fn only_the_pages_own_script_may_run() {
        let html = page(&full()).unwrap();
        let script = html
            .rsplit_once("<script>")
            .unwrap()
            .1
            .split_once("</script>")
            .unwrap()
            .0;
        let hash = STANDARD.encode(Sha256::digest(script));
        assert!(
            html.contains(&format!("script-src &#39;sha256-{hash}"))
                || html.contains(&format!("script-src 'sha256-{hash}"))
        );
        let (live, policy) = live("title", fragment(&full()).unwrap());
        assert!(policy.contains("connect-src 'self'") && live.contains("EventSource"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let html = page(&Report::default()).unwrap();
        for section in [
            "curves",
            "classes",
            "confusion",
            "mistakes",
            "token",
            "temperatures",
        ] {
            assert!(!html.contains(&format!("id=\"{section}\"")), "{section}");
        }
        assert!(waiting(AWKWARD).contains("&lt;/script&gt;"));
    }
}
