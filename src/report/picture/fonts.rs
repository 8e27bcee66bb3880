//! Letters for every script: the fonts that the program carries first, then the system's.
//!
//! DejaVu Sans, cut down to Latin, Greek, Cyrillic and some symbols, is part of the program, so that
//! pictures look alike everywhere and a machine without fonts can draw them. The system's fonts are
//! read only when a text has a letter that these lack, for that takes a while where there are many.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use resvg::usvg::fontdb::{Database, FaceInfo, ID, Source, Stretch, Style, Weight};
use resvg::usvg::{self, FontResolver, Group, Node, Options, Tree};

use crate::words;

/// Letters that the fonts of this machine cannot draw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "whoever reads the picture should be told"]
pub struct MissingLetters(BTreeSet<char>);

impl MissingLetters {
    /// Whether every letter was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The letters, in Unicode's order.
    pub fn letters(&self) -> impl Iterator<Item = char> {
        self.0.iter().copied()
    }
}

/// What is missing and what to do about it, in a sentence.
impl fmt::Display for MissingLetters {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        const NAMED: usize = 8;
        f.write_str("the fonts of this machine cannot draw the letters ")?;
        let named = |letter| format!("{letter} (U+{:04X})", u32::from(letter));
        f.write_str(&words::listed(self.letters().map(named), NAMED))?;
        f.write_str(
            ": “�” or a box stands in their place; install a font that has them (Google's Noto fonts \
             have nearly all), or write the picture as SVG",
        )
    }
}

/// The fonts that the program carries, and which of them is which.
struct Carried {
    database: Arc<Database>,
    regular: Option<ID>,
    bold: Option<ID>,
}

static CARRIED: LazyLock<Carried> = LazyLock::new(|| {
    let mut database = Database::new();
    // `None` only for bytes that are no font; a test shows that these are.
    let mut load = |bytes: &'static [u8]| {
        let loaded = database.load_font_source(Source::Binary(Arc::new(bytes)));
        loaded.first().copied()
    };
    let regular = load(include_bytes!("../../../assets/DejaVuSans-subset.ttf"));
    let bold = load(include_bytes!("../../../assets/DejaVuSans-Bold-subset.ttf"));
    Carried {
        database: Arc::new(database),
        regular,
        bold,
    }
});

/// The carried fonts, by the same numbers, and all of the system's, those first that suit a chart.
struct Everything {
    database: Arc<Database>,
    /// Which font has a letter, where that was asked before: bold or not, the letter.
    found: Mutex<HashMap<(bool, char), Option<ID>>>,
}

static EVERYTHING: LazyLock<Everything> = LazyLock::new(|| {
    let mut system = Database::new();
    system.load_system_fonts();
    let mut faces: Vec<FaceInfo> = system.faces().cloned().collect();
    // Apple's font of last resort claims every letter and shows a box for each.
    faces.retain(|face| !face.post_script_name.contains("LastResort"));
    faces.sort_by_cached_key(suits);
    let mut database = Database::clone(&CARRIED.database);
    for face in faces {
        database.push_face_info(face);
    }
    Everything {
        database: Arc::new(database),
        found: Mutex::default(),
    }
});

/// Least for the fonts that suit a chart best: upright, of normal width, without serifs. The name
/// decides between equals, whatever order the files lie in.
fn suits(face: &FaceInfo) -> impl Ord + use<> {
    let plain = face.style == Style::Normal && face.stretch == Stretch::Normal;
    let named = |word: &str| face.families.iter().any(|(name, _)| name.contains(word));
    (
        Reverse(plain),
        face.monospaced,
        Reverse(named("Sans")),
        named("Mono"),
        face.weight.0.abs_diff(Weight::NORMAL.0),
        face.post_script_name.clone(),
        face.index,
    )
}

impl Everything {
    /// The best font that has the letter and is not among those tried, of the weight of the first
    /// of them if there is one.
    fn font(&self, letter: char, tried: &[ID]) -> Option<ID> {
        let bold = tried.first().copied() == CARRIED.bold;
        let search = || {
            let choose = FontResolver::default_fallback_selector();
            let other_weights = || {
                let faces = self.database.faces();
                let other = faces.filter(|face| (face.weight >= Weight::SEMIBOLD) != bold);
                let untried = other.map(|face| face.id).filter(|id| !tried.contains(id));
                tried.iter().copied().chain(untried).collect::<Vec<ID>>()
            };
            let database = &mut self.database.clone();
            choose(letter, &other_weights(), database).or_else(|| choose(letter, tried, database))
        };
        if tried.len() > 1 {
            return search();
        }
        let mut found = locked(&self.found);
        *found.entry((bold, letter)).or_insert_with(search)
    }
}

/// An SVG document with its letters in their places, and the letters that cannot be drawn.
///
/// The layout gives up on a whole text at the first letter that no font has, so such letters are
/// replaced by U+FFFD, which the program's fonts have.
pub(super) fn laid_out(svg: &str) -> Result<(Tree, MissingLetters), usvg::Error> {
    let mut missing = BTreeSet::new();
    let mut svg = Cow::Borrowed(svg);
    loop {
        let (tree, found_nowhere) = attempt(&svg)?;
        // Each round replaces a letter more, so there is a last one.
        if found_nowhere.is_subset(&missing) {
            undrawn(tree.root(), &mut missing);
            return Ok((tree, MissingLetters(missing)));
        }
        let replaced = |letter: char| found_nowhere.contains(&letter);
        svg = Cow::Owned(svg.replace(replaced, "\u{FFFD}"));
        missing.extend(found_nowhere);
    }
}

/// The document's layout, and some letters that no font has.
fn attempt(svg: &str) -> Result<(Tree, BTreeSet<char>), usvg::Error> {
    let found_nowhere = Mutex::new(BTreeSet::new());
    let font_resolver = FontResolver {
        select_font: Box::new(|font, _| match font.weight() >= Weight::SEMIBOLD.0 {
            true => CARRIED.bold,
            false => CARRIED.regular,
        }),
        select_fallback: Box::new(|letter, tried, database| {
            let everything = &*EVERYTHING;
            // It holds the fonts of the one before it, by the same numbers.
            *database = everything.database.clone();
            let font = everything.font(letter, tried);
            // After the first one, a font may have it and fail for the letters around it.
            if font.is_none() && tried.len() == 1 {
                locked(&found_nowhere).insert(letter);
            }
            font
        }),
    };
    let options = Options {
        fontdb: CARRIED.database.clone(),
        font_resolver,
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options)?;
    let found_nowhere = std::mem::take(&mut *locked(&found_nowhere));
    Ok((tree, found_nowhere))
}

/// What these locks guard is whole after a panic elsewhere, too.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the letters that are boxes in the layout: those of texts in several scripts whose pieces
/// the renderer could not put together, though there are fonts.
fn undrawn(group: &Group, missing: &mut BTreeSet<char>) {
    for node in group.children() {
        match node {
            Node::Group(group) => undrawn(group, missing),
            Node::Text(text) => {
                let spans = text.layouted().iter();
                let glyphs = spans.flat_map(|span| &span.positioned_glyphs);
                let boxes = glyphs.filter(|glyph| glyph.id.0 == 0);
                missing.extend(boxes.flat_map(|glyph| glyph.text.chars()));
            }
            _ => {}
        }
    }
}

/// How long a text is, in pixels, by the layout that will place it.
pub(super) fn length(text: &str, size: f64, weight: &str) -> f64 {
    let svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1" xml:space="preserve"><text font-size="{size}" font-weight="{weight}">{}</text></svg>"#,
        super::canvas::escaped(text)
    );
    match laid_out(&svg) {
        Ok((tree, _)) => f64::from(tree.root().bounding_box().width()),
        // Not reached: an escaped text is a valid one. Tests show that lengths are right.
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(text: &str) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="400" height="40"><text y="30" font-size="20">{text}</text></svg>"#
        )
    }

    fn missing(text: &str) -> String {
        laid_out(&svg(text)).unwrap().1.letters().collect()
    }

    #[test]
    fn the_program_carries_both_its_faces() {
        assert_eq!(CARRIED.database.len(), 2);
        let weight = |id: Option<ID>| CARRIED.database.face(id.unwrap()).unwrap().weight;
        assert_eq!(weight(CARRIED.regular), Weight::NORMAL);
        assert_eq!(weight(CARRIED.bold), Weight::BOLD);
    }

    #[test]
    fn letters_of_the_carried_faces_are_never_missing() {
        // The last é is two letters, which shaping makes one.
        assert_eq!(missing("Übung Жук τέλος “a” …  e\u{301}"), "");
    }

    #[test]
    fn letters_that_no_font_has_are_all_named() {
        // Of a private plane: no font has them, and one that had would have them for itself alone.
        let text = "a\u{10FFF0}b\u{10FFF1}日c\u{10FFF0}";
        let missing = missing(text);
        assert!(missing.contains("\u{10FFF0}") && missing.contains("\u{10FFF1}"));
        assert!(
            missing
                .chars()
                .all(|letter| text.contains(letter) && !letter.is_ascii())
        );
    }

    #[test]
    fn a_letter_that_some_font_has_survives_its_neighbours() {
        let alone = missing("日");
        let beside = missing("\u{10FFF0}日");
        assert_eq!(beside.contains('日'), alone.contains('日'));
    }

    #[test]
    fn the_system_s_fonts_keep_the_carried_ones_numbers() {
        for id in [CARRIED.regular, CARRIED.bold] {
            let name = |database: &Database| {
                let face = database.face(id.unwrap()).unwrap();
                (face.post_script_name.clone(), face.weight)
            };
            assert_eq!(name(&CARRIED.database), name(&EVERYTHING.database));
        }
    }

    #[test]
    fn letters_that_are_missing_take_room() {
        let with = length("a\u{10FFF0}b", 20.0, "normal");
        assert!(with > length("ab", 20.0, "normal") + 5.0);
    }

    #[test]
    fn what_is_missing_is_said_in_a_sentence() {
        let letters = |letters: &str| MissingLetters(letters.chars().collect()).to_string();
        assert!(letters("日").starts_with(
            "the fonts of this machine cannot draw the letters 日 (U+65E5): “�” or a box stands in"
        ));
        let many = letters("一丁丂七丄丅丆万丈三");
        assert!(many.contains("万 (U+4E07) and 2 more: "), "{many}");
    }
}
