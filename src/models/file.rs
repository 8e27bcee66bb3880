//! A model in a file: weights, configuration, class names and normalization together, as
//! safetensors. A trained model, a checkpoint and an imported model are all such files, so each
//! is all that a prediction needs.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use super::{Model, ModelConfig};
use crate::atomic;
use crate::augment::Preprocess;
use crate::data::pictures::{Fit, Square};
use crate::error::{Error, Result};
use crate::input;
use crate::migrate::{self, SCHEMA};
use crate::params::{self, Array, Arrays, Views, keras};

/// What a model needs to know besides its weights.
///
/// In a file it is JSON, with the [`SCHEMA`] it was written in; one without is of schema 1, and is
/// read as what it means now.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Read")]
pub struct ModelInfo {
    /// Sizes and switches.
    pub config: ModelConfig,
    /// Rows, columns and channels of the images it was trained on, before resizing.
    pub input: [usize; 3],
    /// How pictures that are not square were made so.
    pub fit: Fit,
    /// The classes' names, by class number.
    pub classes: Vec<String>,
    /// Mean of each channel of the training images, in units of 0..255.
    pub mean: Vec<f32>,
    /// Variance of each channel of the training images.
    pub variance: Vec<f32>,
}

/// As it is written.
#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    config: &'a ModelConfig,
    input: [usize; 3],
    #[serde(skip_serializing_if = "is_crop")]
    fit: Fit,
    classes: &'a [String],
    mean: &'a [f32],
    variance: &'a [f32],
}

impl Serialize for ModelInfo {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            schema: SCHEMA,
            config: &self.config,
            input: self.input,
            fit: self.fit,
            classes: &self.classes,
            mean: &self.mean,
            variance: &self.variance,
        };
        written.serialize(to)
    }
}

/// What files say nothing of.
fn is_crop(fit: &Fit) -> bool {
    *fit == Fit::Crop
}

/// The schema alone, whatever else there is.
#[derive(Deserialize)]
struct Schema {
    #[serde(default = "first")]
    schema: u32,
}

fn first() -> u32 {
    1
}

/// As it is read.
#[derive(Deserialize)]
struct Read {
    #[serde(default = "first")]
    schema: u32,
    config: Table,
    input: [usize; 3],
    #[serde(default)]
    fit: Fit,
    classes: Vec<String>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// What is wrong, and what to do about it.
fn whole(error: Error) -> String {
    format!("{error}; {}", error.remedy())
}

impl TryFrom<Read> for ModelInfo {
    type Error = String;

    fn try_from(read: Read) -> Result<Self, String> {
        let mut config = read.config;
        if let Some((problem, remedy)) = migrate::refusal(read.schema) {
            return Err(format!("{problem}; {remedy}"));
        }
        if read.schema == 1 {
            migrate::upgrade_model(&mut config).map_err(whole)?;
        }
        let config =
            ModelConfig::read(Value::Table(config), "model", &Table::new()).map_err(whole)?;
        Ok(Self {
            config,
            input: read.input,
            fit: read.fit,
            classes: read.classes,
            mean: read.mean,
            variance: read.variance,
        })
    }
}

impl ModelInfo {
    /// What a picture in a file is brought to, as those that the model was trained on were.
    pub fn square(&self) -> Square {
        let (side, fit) = (self.input[0], self.fit);
        Square { side, fit }
    }

    /// What an image goes through before the model.
    pub fn preprocess(&self) -> Preprocess {
        Preprocess {
            input: self.input,
            image_size: self.config.image_size(),
            mean: self.mean.clone(),
            variance: self.variance.clone(),
        }
    }

    /// A model of this kind with fresh weights.
    pub fn init(&self, seed: u64, device: &Device) -> Model {
        Model::new(
            &self.config,
            self.input[2],
            self.classes.len(),
            seed,
            device,
        )
    }

    /// A model of this kind with these weights, for inference on `device`.
    ///
    /// # Errors
    /// [`Error::Model`] where something here cannot be, or the weights are not exactly the model's,
    /// or one is NaN or infinite. Nothing is made before all this is known.
    pub fn with_weights(
        &self,
        weights: &Arrays,
        place: impl ToString,
        device: &Device,
    ) -> Result<Model> {
        params::load(self.blank(&place, device)?, weights, place)
    }

    /// A model of this kind that has no weights yet, and takes no memory.
    fn blank(&self, place: &impl ToString, device: &Device) -> Result<Model> {
        self.check(place)?;
        let (channels, classes) = (self.input[2], self.classes.len());
        Ok(Model::blank(&self.config, channels, classes, device))
    }

    fn check(&self, place: &impl ToString) -> Result<()> {
        let refuse = |problem: String| {
            Err(Error::model(
                place.to_string(),
                problem,
                "the file was not written whole by this program; take another",
            ))
        };
        let [height, width, channels] = self.input;
        if height != width || !(1..=1 << 14).contains(&height) || !matches!(channels, 1 | 3) {
            return refuse(format!(
                "its images are {height}×{width} pixels with {channels} channels, not squares of \
                 1 or 3"
            ));
        }
        let mut normalization = self.mean.iter().chain(&self.variance);
        if !normalization.all(|n| n.is_finite()) || self.variance.iter().any(|&v| v < 0.0) {
            return refuse("its normalization is no mean and variance".into());
        }
        if self.mean.len() != channels || self.variance.len() != channels {
            return refuse(format!(
                "its normalization does not have {channels} channels"
            ));
        }
        if self.classes.len() < 2 {
            return refuse("it has fewer than two classes".into());
        }
        match self.config.check_for(channels, self.classes.len()) {
            Ok(()) => Ok(()),
            Err(error) => refuse(error.to_string()),
        }
    }
}

/// Groups whose arrays must be 32-bit floats: passed over, they would be missing or replaced.
const NUMBERS: [&str; 6] = [
    "weights",
    "weight",
    "average",
    "moment1",
    "moment2",
    "normalization",
];

/// The longest header that is read, in bytes: the format's own bound.
const LONGEST_HEADER: u64 = 100_000_000;

/// The most arrays that a file has: the deepest model, with moments and averages, has half as many.
const MOST_ARRAYS: usize = 100_000;

/// The most text that is written into one, which JSON's escapes make longer.
const MOST_TEXT: usize = 40_000_000;

/// A safetensors file whose header is read: JSON values, and groups of arrays (`weights.…`,
/// `moment1.…`), whose numbers are read when they are taken.
pub struct Contents {
    file: File,
    /// The file's byte at which arrays begin.
    start: u64,
    groups: HashMap<String, BTreeMap<String, TensorInfo>>,
    metadata: HashMap<String, String>,
    sums: Sums,
    path: PathBuf,
    place: String,
}

/// CRC-32C of each text of a file and of each group of its arrays' numbers, by their names.
type Sums = BTreeMap<String, u32>;

/// The key of the sums. Files from elsewhere, and older ones, have none.
const SUMS: &str = "crc32c_of_each";

/// What to take instead of a file that is no use.
const ANOTHER: &str =
    "it is damaged, or no model file: take another (a run folder keeps `best` and `last`)";

impl Contents {
    /// Opens a file and reads its header. Fails with [`Error::Io`], or [`Error::Model`] where it is
    /// no safetensors file, is damaged, or has weights that are not 32-bit floats. (Whether numbers
    /// are damaged shows when they are taken.)
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let (mut file, length) = input::open(path)?;
        let header = header(&mut file, length, path)?;
        let mut groups: HashMap<String, BTreeMap<String, TensorInfo>> = HashMap::new();
        for (name, info) in header.tensors() {
            let Some((group, name)) = name.split_once('.') else {
                continue;
            };
            if info.dtype != Dtype::F32 {
                if NUMBERS.contains(&group) {
                    let problem = format!("{group}.{name} is {:?}, not F32", info.dtype);
                    return Err(Error::model(&place, problem, ANOTHER));
                }
                continue; // something beside a model, as labels or pixels
            }
            let group = groups.entry(group.into()).or_default();
            group.insert(name.into(), info.clone());
        }
        let mut contents = Self {
            file,
            start: length - header.data_len() as u64,
            groups,
            metadata: header.metadata().clone().unwrap_or_default(),
            sums: Sums::new(),
            path: path.into(),
            place,
        };
        // A newer file may have anything in it; it is refused as such.
        if migrate::refusal(contents.schema()).is_none() {
            contents.check_texts()?;
        }
        Ok(contents)
    }

    fn check_texts(&mut self) -> Result<()> {
        if self.text(SUMS).is_some() {
            self.sums = self.json(SUMS)?;
        }
        let mut texts = self.metadata.iter();
        texts.try_for_each(|(name, text)| self.check_sum(name, crc32c::crc32c(text.as_bytes())))
    }

    /// Refuses what is not as it was written, where the file knows.
    fn check_sum(&self, name: &str, sum: u32) -> Result<()> {
        match self.sums.get(name) {
            Some(&written) if written != sum => {
                let problem =
                    format!("`{name}` in it is not as it was written: the file is damaged");
                Err(Error::model(&self.place, problem, ANOTHER))
            }
            _ => Ok(()),
        }
    }

    /// Whether there are arrays whose names begin with `group` and a dot.
    pub fn has(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The arrays whose names begin with `group` and a dot, without it.
    pub fn take(&mut self, group: &str) -> Result<Arrays> {
        let Some(infos) = self.groups.remove(group) else {
            return Err(self.without(group));
        };
        let (mut arrays, mut sum) = (Arrays::new(), 0);
        for (name, info) in infos {
            let values = self
                .numbers(&info, &mut sum)
                .map_err(Error::io("read", &self.path))?;
            let shape = info.shape;
            arrays.insert(name, Array { shape, values });
        }
        self.check_sum(group, sum)?;
        Ok(arrays)
    }

    fn without(&self, group: &str) -> Error {
        let problem = format!("there is no array in it whose name begins with {group}");
        Error::model(&self.place, problem, "choose a model or checkpoint file")
    }

    /// An array's numbers, whose bytes are added to the checksum.
    fn numbers(&mut self, info: &TensorInfo, sum: &mut u32) -> io::Result<Vec<f32>> {
        let (first, end) = info.data_offsets;
        let mut left = end - first;
        self.file.seek(SeekFrom::Start(self.start + first as u64))?;
        let mut values = Vec::with_capacity(left / 4);
        let mut bytes = vec![0; left.min(1 << 16)];
        while left > 0 {
            let part = &mut bytes[..left.min(1 << 16)];
            self.file.read_exact(part)?;
            *sum = crc32c::crc32c_append(*sum, part);
            left -= part.len();
            let (four, _) = part.as_chunks();
            values.extend(four.iter().map(|&four| f32::from_le_bytes(four)));
        }
        Ok(values)
    }

    /// The model for inference: of a run that averages its weights, with the averaged ones, by which
    /// the run is judged. Names and shapes are compared before a number is read.
    pub fn model(&mut self, device: &Device) -> Result<(ModelInfo, Model)> {
        let info = self.info()?;
        let blank = info.blank(&self.place, device)?;
        let group = if self.has("average") {
            "average"
        } else {
            "weights"
        };
        let schema = self.schema();
        let ours = |arrays| match schema {
            1 => keras::translate(arrays),
            _ => arrays,
        };
        let shapes = params::shapes_of(&ours(self.outline(group)?));
        params::check_shapes(&blank, &shapes, &self.place)?;
        let weights = ours(self.take(group)?);
        Ok((info, params::load(blank, &weights, &self.place)?))
    }

    /// A group's arrays without their numbers.
    fn outline(&self, group: &str) -> Result<Arrays> {
        let infos = self.groups.get(group).ok_or_else(|| self.without(group))?;
        let array = |info: &TensorInfo| Array {
            shape: info.shape.clone(),
            values: vec![],
        };
        let arrays = infos.iter().map(|(name, info)| (name.clone(), array(info)));
        Ok(arrays.collect())
    }

    /// What the model needs to know besides its weights. A file of a newer schema says so.
    pub fn info(&self) -> Result<ModelInfo> {
        // Before all else: a newer file may have anything in it.
        if let Some((problem, remedy)) = migrate::refusal(self.schema()) {
            return Err(Error::model(&self.place, problem, remedy));
        }
        self.json("model")
    }

    /// The schema that the model was written in.
    pub fn schema(&self) -> u32 {
        self.json("model")
            .map_or(migrate::SCHEMA, |Schema { schema }| schema)
    }

    /// The text kept under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The value kept under `key`.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let problem = match self.text(key).map(serde_json::from_str) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(error)) => format!("its `{key}` cannot be read ({error})"),
            None => format!("it has no `{key}`"),
        };
        Err(Error::model(
            &self.place,
            problem,
            "choose a file that this version of the program wrote or imported",
        ))
    }
}

/// A header as it is written: read one array after another, so that what is too much, or is there
/// twice, is refused when it comes.
struct Header {
    text: Option<HashMap<String, String>>,
    arrays: BTreeMap<String, TensorInfo>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("arrays by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut text, mut arrays) = (None, BTreeMap::new());
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == "__metadata__" {
                        text.replace(map.next_value()?).is_some()
                    } else {
                        arrays.insert(name.clone(), map.next_value()?).is_some()
                    };
                    if twice {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                    if arrays.len() > MOST_ARRAYS {
                        let problem = format!("there are more than {MOST_ARRAYS} arrays");
                        return Err(A::Error::custom(problem));
                    }
                }
                Ok(Header { text, arrays })
            }
        }
        from.deserialize_map(Fields)
    }
}

/// The header of a file of so many bytes.
fn header(file: &mut File, length: u64, path: &Path) -> Result<Metadata> {
    let broken = |why: String| {
        let problem = format!("this is not a whole safetensors file ({why})");
        Error::model(path.display(), problem, ANOTHER)
    };
    let mut size = [0; 8];
    let Some(rest) = length.checked_sub(size.len() as u64) else {
        return Err(broken(format!("it has {length} bytes")));
    };
    file.read_exact(&mut size)
        .map_err(Error::io("read", path))?;
    let size = u64::from_le_bytes(size);
    if size > rest.min(LONGEST_HEADER) {
        return Err(broken(format!("its header would have {size} bytes")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header)
        .map_err(Error::io("read", path))?;
    let Header { text, arrays } =
        serde_json::from_slice(&header).map_err(|error| broken(error.to_string()))?;
    let mut arrays: Vec<_> = arrays.into_iter().collect();
    arrays.sort_by_key(|(_, info)| info.data_offsets);
    let header = Metadata::new(text, arrays).map_err(|error| broken(error.to_string()))?;
    let (found, expected) = (rest - size, header.data_len() as u64);
    if found != expected {
        return Err(broken(format!(
            "its arrays have {found} bytes, not {expected}"
        )));
    }
    Ok(header)
}

/// Numbers as a file has them: little-endian.
fn bytes(numbers: &[f32]) -> Cow<'_, [u8]> {
    match cfg!(target_endian = "little") {
        true => Cow::Borrowed(bytemuck::cast_slice(numbers)),
        false => {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            Cow::Owned(bytes.collect())
        }
    }
}

/// Writes groups of arrays and JSON values so that `path` is at every moment either its old
/// contents or its new ones, whole: to a temporary name beside it, synced, renamed. The numbers go
/// there from where they lie.
///
/// # Errors
/// [`Error::Io`], or [`Error::Model`] where there is more text than a header takes.
pub fn write(path: &Path, groups: &[(&str, &Views)], metadata: &[(&str, String)]) -> Result<()> {
    let text: usize = metadata.iter().map(|(_, value)| value.len()).sum();
    if text > MOST_TEXT {
        return Err(Error::model(
            path.display(),
            format!("its header would hold {text} bytes of text, and takes {MOST_TEXT}"),
            "give the classes shorter names, or train fewer epochs",
        ));
    }
    let texts = metadata.iter();
    let mut metadata: HashMap<_, _> = texts
        .map(|(key, value)| (key.to_string(), value.clone()))
        .collect();
    let texts = metadata
        .iter()
        .map(|(key, text)| (key.clone(), crc32c::crc32c(text.as_bytes())));
    let numbers = groups.iter().map(|(group, views)| {
        (
            group.to_string(),
            checksum(views.values().map(|v| v.numbers())),
        )
    });
    let sums: Sums = texts.chain(numbers).collect();
    let sums = serde_json::to_string(&sums).expect("plain data can be written as JSON");
    metadata.insert(SUMS.into(), sums);
    let named = groups.iter().flat_map(|(group, views)| {
        let full = move |(name, view)| (format!("{group}.{name}"), view);
        views.iter().map(full)
    });
    // One after another by their names, as others write such files.
    let views: BTreeMap<String, &params::View> = named.collect();
    let mut end = 0;
    let tensors = views.iter().map(|(name, view)| {
        let begin = end;
        end += 4 * view.numbers().len();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: view.shape.clone(),
            data_offsets: (begin, end),
        };
        (name.clone(), info)
    });
    let tensors = tensors.collect();
    let header = Metadata::new(Some(metadata), tensors)
        .expect("names are unique, lengths fit their shapes, and nothing lies between");
    let mut header = serde_json::to_vec(&header).expect("plain data can be written as JSON");
    // The numbers begin at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    atomic::write_by(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        views
            .values()
            .try_for_each(|view| file.write_all(&bytes(view.numbers())))
    })
}

/// CRC-32C over arrays' numbers as a file has them, one after another.
fn checksum<'a>(arrays: impl Iterator<Item = &'a [f32]>) -> u32 {
    arrays.fold(0, |sum, numbers| {
        crc32c::crc32c_append(sum, &bytes(numbers))
    })
}

/// Writes a model, with what else is to be known of it.
pub fn save(path: &Path, info: &ModelInfo, weights: &Views, more: &[(&str, String)]) -> Result<()> {
    let info = serde_json::to_string(info).expect("plain data can be written as JSON");
    let metadata = [&[("model", info)], more].concat();
    write(path, &[("weights", weights)], &metadata)
}

/// Reads a model for inference.
pub fn open(path: &Path, device: &Device) -> Result<(ModelInfo, Model)> {
    Contents::read(path)?.model(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::VitConfig;

    fn schema_1() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures/schema1/run/checkpoints/best.safetensors")
    }

    #[test]
    fn a_file_of_schema_1_is_read_as_what_it_means_now() {
        let info = Contents::read(&schema_1()).unwrap().info().unwrap();
        let config = ModelConfig {
            spt: true,
            lsa: true,
            arch: VitConfig {
                image_size: 32,
                patch_size: 8,
                dim: 8,
                depth: 2,
                heads: 2,
                key_dim: 4,
                mlp_width: 16,
                head: vec![16],
                dropout: 0.0,
                head_dropout: 0.0,
                ..VitConfig::default()
            }
            .into(),
        };
        let expected = ModelInfo {
            fit: Fit::Crop,
            config,
            input: [32, 32, 3],
            classes: (0..10).map(|class| class.to_string()).collect(),
            mean: vec![171.89986, 164.52286, 157.0101],
            variance: vec![1217.5764, 1545.7915, 2165.1714],
        };
        assert_eq!(info, expected);
        // And written as one of now.
        let written = serde_json::to_string(&info).unwrap();
        assert!(written.starts_with("{\"schema\":2,\"config\":{\"family\":\"vit\","));
        assert_eq!(serde_json::from_str::<ModelInfo>(&written).unwrap(), info);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let refused = |info: &str| {
            write(&path, &[], &[("model", info.to_owned())]).unwrap();
            let error = Contents::read(&path).unwrap().info().unwrap_err();
            assert_eq!(error.exit_code(), 1);
            (error.to_string(), error.remedy().to_owned())
        };
        let (problem, remedy) = refused("{\"schema\":3,\"backbone\":[]}");
        assert!(
            problem.ends_with("written by a newer smallvit (schema 3; this one reads up to 2)"),
            "{problem}"
        );
        assert!(remedy.contains("update the program"), "{remedy}");
        let info = |config: &str| {
            format!(
                "{{\"schema\":2,\"config\":{config},\"input\":[8,8,1],\"classes\":[],\
                 \"mean\":[],\"variance\":[]}}"
            )
        };
        let (problem, _) = refused(&info("{\"dimm\":3}"));
        assert!(problem.contains("model.dimm: there is no"), "{problem}");
        let (problem, _) = refused(&info("{\"family\":\"x\"}"));
        assert!(problem.contains("model.family: there is no"), "{problem}");
        let (problem, _) = refused("{\"config\":{\"dim\":8,\"mlp\":[8]}}");
        assert!(problem.contains("missing field"), "{problem}");
    }

    /// A safetensors file by hand.
    fn by_hand(header: &[u8], data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header, data].concat()
    }

    #[test]
    fn damaged_and_hostile_files_are_refused_by_their_headers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(schema_1()).unwrap();
        let one = |shape: &str, end: &str| {
            format!(
                "{{\"weights.a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}"
            )
        };
        // Without the first's last brace, and the second's first.
        let first = one("[1]", "4");
        let twice = format!("{},{}", &first[..first.len() - 1], &one("[2]", "8")[1..]);
        let many: Vec<String> = (0..150_000)
            .map(|n| {
                one("[0]", "0")[1..]
                    .replacen(".a", &n.to_string(), 1)
                    .replacen("}}", "}", 1)
            })
            .collect();
        let many = format!("{{{}}}", many.join(","));
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (by_hand(many.as_bytes(), b""), "more than 100000 arrays"),
            (vec![], "it has 0 bytes"),
            (b"1234567".to_vec(), "it has 7 bytes"),
            (
                b"PK\x03\x04 a zip archive".to_vec(),
                "its header would have",
            ),
            (u64::MAX.to_le_bytes().to_vec(), "its header would have"),
            (by_hand(b"", b""), "EOF"),
            (by_hand(b"[]", b""), "invalid type"),
            (by_hand(b"{\"a\":\"\xff\"}", b""), "unicode"),
            (
                by_hand(&[b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat(), b""),
                "(invalid type",
            ),
            (
                by_hand(&[b"{\"a\":".repeat(1 << 18), b"0".to_vec()].concat(), b""),
                "(",
            ),
            (
                by_hand(one("[1000000000000]", "4000000000000").as_bytes(), b""),
                "arrays have 0 bytes",
            ),
            (
                by_hand(one("[4611686018427387904,4]", "0").as_bytes(), b""),
                "(",
            ),
            (by_hand(one("[2]", "4").as_bytes(), b"1234"), "("),
            (
                by_hand(one("[1]", "4").as_bytes(), b"12345"),
                "have 5 bytes, not 4",
            ),
            (
                by_hand(one("[-1]", "4").as_bytes(), b"1234"),
                "invalid value",
            ),
            (
                by_hand(twice.as_bytes(), &[0; 12]),
                "weights.a is there twice",
            ),
            (whole[..whole.len() - 1].to_vec(), "bytes, not"),
            (whole[..whole.len() / 2].to_vec(), "bytes, not"),
            ([&whole[..], b"more"].concat(), "bytes, not"),
        ];
        for (bytes, problem) in cases {
            std::fs::write(&path, &bytes).unwrap();
            let error = Contents::read(&path).err().unwrap();
            let message = error.to_string();
            assert!(
                message.contains("no whole") || message.contains("not a whole"),
                "{message}"
            );
            assert!(message.contains(problem), "{problem}: {message}");
            assert!(!error.remedy().is_empty());
        }
        let error = Contents::read(dir.path()).err().unwrap();
        assert!(error.to_string().contains("it is a folder"), "{error}");
        // A header of a hundred million bytes is not even read.
        let file = File::create(&path).unwrap();
        std::io::Write::write_all(&mut &file, &100_000_001_u64.to_le_bytes()).unwrap();
        file.set_len(200_000_000).unwrap();
        let error = Contents::read(&path).err().unwrap();
        assert!(
            error.to_string().contains("its header would have"),
            "{error}"
        );
        // And none is written that could not be.
        let error = write(&path, &[], &[("model", "x".repeat(50_000_000))]).unwrap_err();
        assert!(
            error.to_string().contains("its header would hold"),
            "{error}"
        );
    }

    fn views(arrays: Arrays) -> Views {
        let view = |(name, array): (String, Array)| (name, array.into());
        arrays.into_iter().map(view).collect()
    }

    /// The fixture's model, with another configuration or other weights.
    fn changed(
        config: &str,
        change: impl FnOnce(&mut Arrays),
    ) -> (std::path::PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let (info, model) = open(&schema_1(), &Device::flex()).unwrap();
        let mut weights = params::weights(&model);
        change(&mut weights);
        let info = serde_json::to_string(&info).unwrap();
        let (from, to) = config.split_once(" to ").unwrap_or(("", ""));
        assert!(info.contains(from), "{info}");
        let info = info.replacen(from, to, 1);
        write(&path, &[("weights", &views(weights))], &[("model", info)]).unwrap();
        (path, dir)
    }

    #[test]
    fn a_configuration_that_is_not_the_weights_is_refused_before_anything_is_made() {
        for (config, problem) in [
            (
                "\"dim\":8 to \"dim\":1000000",
                "model.dim: 1000000 is out of range",
            ),
            ("\"dim\":8 to \"dim\":65536", "and so on, 26 in all"),
            ("\"dim\":8 to \"dim\":16", "is [8], not [16]"),
            ("\"depth\":2 to \"depth\":1000000000", "model.depth: "),
            (
                "\"depth\":2 to \"depth\":1024",
                "blocks.10.attention.norm.beta is missing",
            ),
            (
                "\"depth\":2 to \"depth\":1",
                "blocks.1.attention.norm.beta is none of this model's",
            ),
            ("\"heads\":2 to \"heads\":1000000000", "model.heads: "),
            ("\"patch_size\":8 to \"patch_size\":2", "is ["),
            (
                "\"image_size\":32 to \"image_size\":100000",
                "model.image_size: ",
            ),
            ("\"head\":[16] to \"head\":[1048576,1048576]", "parameters"),
            ("[32,32,3] to [32,32,5]", "5 channels"),
            ("[32,32,3] to [100000,100000,3]", "100000×100000 pixels"),
            ("\"mean\":[ to \"mean\":[1,", "does not have 3 channels"),
            (
                "\"variance\":[1217.5764 to \"variance\":[-1",
                "no mean and variance",
            ),
            ("\"variance\":[1217.5764 to \"variance\":[1e39", "model"),
            ("[\"0\",\"1\", to [", "is [16, 10], not [16, 8]"),
        ] {
            let (path, _dir) = changed(config, |_| ());
            let error = open(&path, &Device::flex()).err().unwrap();
            let message = error.to_string();
            assert!(message.contains(problem), "{config}: {message}");
            assert_eq!(error.exit_code(), 1);
        }
    }

    #[test]
    fn no_flipped_bit_changes_an_answer() {
        let (path, _dir) = changed("", |_| ());
        let whole = std::fs::read(&path).unwrap();
        let read = || {
            let (info, model) = open(&path, &Device::flex()).ok()?;
            Some((info, params::weights(&model)))
        };
        let written = read().unwrap();
        let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
        // Each byte of the header, and some of the numbers.
        let places = (0..header).chain((header..whole.len()).step_by(101));
        let mut refused = 0;
        for place in places {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            std::fs::write(&path, damaged).unwrap();
            match read() {
                Some(read) => assert!(read == written, "byte {place}"),
                None => refused += 1,
            }
        }
        // What is left over changes nothing: a blank at the header's end, or the sums' own name.
        assert!(refused > header - 100, "{refused} of {header}");
    }

    #[test]
    fn weights_that_are_missing_strange_or_no_numbers_are_named() {
        type Change = fn(&mut Arrays);
        let cases: [(Change, &str); 6] = [
            (
                |w| drop(w.remove("head.logits.bias")),
                "the weight head.logits.bias is missing",
            ),
            (
                |w| w.retain(|name, _| !name.starts_with("blocks.0.")),
                "and so on, 13 in all",
            ),
            (
                |w| drop(w.insert("\u{1b}[31mred".into(), w["head.logits.bias"].clone())),
                "the weight \\u{1b}[31mred is none",
            ),
            (
                |w| w.get_mut("head.logits.bias").unwrap().values[3] = f32::NAN,
                "head.logits.bias is NaN or infinite at 1 of 10 places",
            ),
            (
                |w| {
                    w.values_mut()
                        .for_each(|array| array.values.fill(f32::INFINITY))
                },
                "in all",
            ),
            (
                |w| w.get_mut("head.logits.bias").unwrap().shape = vec![2, 5],
                "is [2, 5], not [10]",
            ),
        ];
        for (change, problem) in cases {
            let (path, _dir) = changed(" to ", change);
            let error = open(&path, &Device::flex()).err().unwrap();
            assert!(error.to_string().contains(problem), "{problem}: {error}");
            assert!(!error.to_string().contains('\u{1b}'));
        }
        // Averaged weights are what would be opened.
        let (path, _dir) = changed(" to ", |_| ());
        let mut contents = Contents::read(&path).unwrap();
        let (info, mut weights) = (contents.info().unwrap(), contents.take("weights").unwrap());
        let info = serde_json::to_string(&info).unwrap();
        let good = weights.clone();
        weights.get_mut("sequence.position").unwrap().values[0] = f32::NEG_INFINITY;
        write(
            &path,
            &[("weights", &views(good)), ("average", &views(weights))],
            &[("model", info)],
        )
        .unwrap();
        let error = open(&path, &Device::flex()).err().unwrap();
        assert!(
            error.to_string().contains("sequence.position is NaN"),
            "{error}"
        );
    }

    #[test]
    fn no_damage_to_a_file_is_more_than_an_error() {
        use crate::random::{Purpose, Stream};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(schema_1()).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap());
        let mut opened = 0;
        for case in 0..1500 {
            let mut stream = Stream::new(1, Purpose::Show, case, 0);
            let mut bytes = whole.clone();
            for _ in 0..1 + stream.next() % 4 {
                // Mostly digits and letters of the header, where they still are some.
                let place = match stream.next() % 8 {
                    0 => stream.next() % whole.len() as u64,
                    _ => stream.next() % header,
                } as usize;
                bytes[place] = match stream.next() % 4 {
                    0 => stream.next() as u8,
                    1 => b"{}[]\",:\\"[stream.next() as usize % 8],
                    _ => b'0' + (stream.next() % 10) as u8,
                };
            }
            if stream.next().is_multiple_of(8) {
                bytes.truncate(stream.next() as usize % whole.len());
            }
            std::fs::write(&path, bytes).unwrap();
            opened += u32::from(open(&path, &Device::flex()).is_ok());
        }
        // Another number in the metadata, say.
        assert!((1..1000).contains(&opened), "{opened}");
    }
}
