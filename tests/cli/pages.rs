//! Pages of runs, the pictures in them, and what is served.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;

use super::*;

/// A picture of one colour.
fn picture(path: &Path, colour: [u8; 3]) {
    let image = image::RgbImage::from_pixel(40, 30, image::Rgb(colour));
    image.save(path).unwrap();
}

/// A comparison of two tiny models with two seeds.
fn comparison(folder: &Path) -> PathBuf {
    succeeds(tiny(folder, &["compare", "--seeds", "2", "--out", "both"]));
    folder.join("both")
}

#[test]
fn a_comparison_leaves_a_page_that_shows_it_all() {
    let dir = TempDir::new().unwrap();
    let both = comparison(dir.path());
    let html = fs::read_to_string(both.join("report.html")).unwrap();
    for part in [
        "<!DOCTYPE html>",
        "Content-Security-Policy",
        "2 seeds, 95 % interval",
        r#"id="class-table""#,
        r#"id="confusion-1""#,
        "taken for <b>",
        "Learned temperatures",
        "smallvit compare",
        "data:image/png;base64,",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Nothing is asked for from elsewhere.
    for attribute in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!html.contains(attribute), "{attribute}");
    }
    // Every run has one of its own, and a table of its answers.
    for run in [
        "seed-42/vit",
        "seed-42/sl-vit",
        "seed-43/vit",
        "seed-43/sl-vit",
    ] {
        let own = fs::read_to_string(both.join(run).join("report.html")).unwrap();
        assert!(own.contains("test images right"), "{run}");
        let answers = fs::read_to_string(both.join(run).join("answers.csv")).unwrap();
        assert!(answers.starts_with("image,class,answer,confidence,loss,rank\n"));
        assert_eq!(answers.lines().count(), 1 + 411);
    }
    // Written again, of what lies there alone, it is the same but for where it is drawn from.
    succeeds(smallvit(
        dir.path(),
        &["report", "both", "-o", "again.html"],
    ));
    let again = fs::read_to_string(dir.path().join("again.html")).unwrap();
    assert_eq!(again.len(), html.len());
    // Several runs, one of which is of one model only.
    let said = succeeds(smallvit(
        dir.path(),
        &["report", "both/seed-42/vit", "both/seed-43/vit"],
    ));
    assert!(
        said.contains("report.html") && said.contains("mean ± deviation of 2 seeds"),
        "{said}"
    );
    let error = fails(smallvit(dir.path(), &["report", "nowhere"]), 1);
    assert!(error.contains("there is no run in it"), "{error}");

    // The same answers make the comparison's evaluation.
    let printed = succeeds(smallvit(dir.path(), &["evaluate", "both", "--json"]));
    let evaluated: Value = serde_json::from_str(&printed).unwrap();
    let runs = evaluated["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        let folder = dir.path().join(run["folder"].as_str().unwrap());
        let result = json(&folder.join("result.json"));
        assert_eq!(run["top1"], result["models"][0]["test_top1"]);
        let csv = fs::read_to_string(folder.join("answers.csv")).unwrap();
        let right = csv.lines().filter(|line| line.ends_with(",0")).count();
        let top1 = run["top1"].as_f64().unwrap();
        assert!((top1 - 100.0 * right as f64 / 411.0).abs() < 1e-9);
        let error = run["calibration"]["error"].as_f64().unwrap();
        assert!((0.0..=100.0).contains(&error) && run["confusion"][0].is_array());
        for picture in ["confusion.png", "reliability.png"] {
            assert!(folder.join(picture).is_file(), "{picture}");
        }
    }
    let table = succeeds(smallvit(dir.path(), &["evaluate", "both"]));
    assert!(
        table.contains("macro-F1") && table.lines().count() > 6,
        "{table}"
    );
    fails(
        smallvit(dir.path(), &["evaluate", "both", "-o", "x.png"]),
        2,
    );
}

#[test]
fn names_of_classes_are_text_in_a_page() {
    let dir = TempDir::new().unwrap();
    let awkward = "<b>x<script>1";
    for class in [awkward, "plain"] {
        let folder = dir.path().join("set").join(class);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..12 {
            let value = if class == "plain" { 20 } else { 200 } + number;
            picture(&folder.join(format!("{number}.png")), [value; 3]);
        }
    }
    let command = [
        "train",
        "--data",
        "folder:set",
        "--out",
        "run",
        "--set",
        "data.validation=0.2",
    ];
    succeeds(tiny(dir.path(), &command));
    let html = fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(html.contains("&lt;b&gt;x&lt;script&gt;1"));
    assert!(!html.contains(awkward));
}

#[test]
fn where_a_model_looks_is_drawn() {
    let dir = TempDir::new().unwrap();
    succeeds(tiny(
        dir.path(),
        &["train", "--model", "sl-vit", "--out", "run"],
    ));
    picture(&dir.path().join("a.png"), [200, 30, 30]);
    let said = succeeds(smallvit(dir.path(), &["show", "attention", "run", "a.png"]));
    assert!(said.contains("sl-vit says “"), "{said}");
    assert!(dir.path().join("attention.png").is_file());
    let from = [
        "show",
        "attention",
        "run",
        "a.png",
        "--from",
        "3,2",
        "-o",
        "from.svg",
    ];
    succeeds(smallvit(dir.path(), &from));
    let svg = fs::read_to_string(dir.path().join("from.svg")).unwrap();
    for part in [
        "the token in row 3, column 2",
        "layer 1, head 2",
        "through all layers",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    let error = fails(
        smallvit(
            dir.path(),
            &["show", "attention", "run", "a.png", "--from", "4,0"],
        ),
        2,
    );
    assert!(
        error.contains("choose rows and columns from 0 to 3"),
        "{error}"
    );
    let tokens = [
        "show",
        "patches",
        "--index",
        "3",
        "--token",
        "1,2",
        "-o",
        "token.svg",
    ];
    succeeds(smallvit(dir.path(), &tokens));
    let svg = fs::read_to_string(dir.path().join("token.svg")).unwrap();
    assert!(svg.contains("5 × 48 = 240 numbers"));
    let error = fails(
        smallvit(dir.path(), &["show", "patches", "--token", "8,0"]),
        2,
    );
    assert!(error.contains("from 0 to 7"), "{error}");
}

#[test]
fn pictures_come_by_pattern_and_by_standard_input_and_go_as_csv() {
    let dir = TempDir::new().unwrap();
    succeeds(tiny(dir.path(), &["train", "--out", "run"]));
    fs::create_dir_all(dir.path().join("pets/deep")).unwrap();
    for name in ["pets/a.png", "pets/b,c.png", "pets/deep/d.png"] {
        picture(&dir.path().join(name), [90, 120, 30]);
    }
    fs::write(dir.path().join("pets/e.png"), "no picture").unwrap();
    let command = ["predict", "run", "pets/**/*.png", "--csv", "--top", "2"];
    let output = run(smallvit(dir.path(), &command));
    assert_eq!(output.status.code(), Some(1), "one has no answer");
    let mut table = csv::Reader::from_reader(output.stdout.as_slice());
    let rows: Vec<Vec<String>> = table
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect())
        .collect();
    let of =
        |name: &str| -> Vec<&Vec<String>> { rows.iter().filter(|row| row[0] == name).collect() };
    for name in ["pets/a.png", "pets/b,c.png", "pets/deep/d.png"] {
        let rows = of(name);
        assert_eq!(rows.len(), 2, "{name}");
        assert_eq!((rows[0][1].as_str(), rows[1][1].as_str()), ("1", "2"));
        let share = |row: &[String]| row[3].parse::<f64>().unwrap();
        assert!(share(rows[0]) >= share(rows[1]) && rows[0][4].is_empty());
    }
    assert_eq!(of("pets/e.png").len(), 1);
    assert!(of("pets/e.png")[0][4].contains("no picture"));

    let mut command = smallvit(dir.path(), &["predict", "run", "-", "--json", "--top", "3"]);
    command.stdin(fs::File::open(dir.path().join("pets/a.png")).unwrap());
    let from_pipe: Value = serde_json::from_str(&succeeds(command)).unwrap();
    let named = succeeds(smallvit(
        dir.path(),
        &["predict", "run", "pets/a.png", "--json", "--top", "3"],
    ));
    let named: Value = serde_json::from_str(&named).unwrap();
    assert_eq!(from_pipe[0]["likeliest"], named[0]["likeliest"]);
    assert_eq!(named[0]["likeliest"].as_array().unwrap().len(), 3);
    let error = fails(smallvit(dir.path(), &["predict", "run", "pets/*.gif"]), 1);
    assert!(error.contains("pets/*.gif"), "{error}");
}

/// A server that is ended with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim_end()
            .rsplit_once("http://")
            .unwrap_or_else(|| panic!("{line}"))
            .1;
        let address = address.trim_end_matches('/').to_owned();
        Self { child, address }
    }

    /// The status and the body of an answer.
    fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let host = match headers.iter().any(|header| header.starts_with("Host:")) {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let more: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who refuses at once need not read it all.
        let _ = stream.write_all(body);
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(head.contains("content-security-policy: "), "{head}");
        (status, answer[end + 4..].to_vec())
    }

    fn json(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let (status, body) = self.ask(method, path, &["Content-Type: image/png"], body);
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Asked to end, it does, and says that all is well.
    fn ends(mut self) {
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(asked.success());
        assert_eq!(ended(&mut self.child).code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(unix, feature = "serve"))]
#[test]
fn served_models_say_what_predict_says() {
    let dir = TempDir::new().unwrap();
    for model in ["vit", "sl-vit"] {
        succeeds(tiny(
            dir.path(),
            &["train", "--model", model, "--out", model],
        ));
    }
    picture(&dir.path().join("a.png"), [10, 200, 90]);
    let bytes = fs::read(dir.path().join("a.png")).unwrap();
    let arguments = [
        "serve",
        "vit",
        "sl-vit",
        "--listen",
        "127.0.0.1:0",
        "--max-body",
        "1",
    ];
    let server = Server::start(smallvit(dir.path(), &arguments));
    let (status, models) = server.json("GET", "/v1/models", &[]);
    assert_eq!(status, 200);
    for (number, model) in ["vit", "sl-vit"].into_iter().enumerate() {
        assert_eq!(models["models"][number]["id"], model);
        let printed = succeeds(smallvit(dir.path(), &["predict", model, "a.png", "--json"]));
        let expected: Value = serde_json::from_str(&printed).unwrap();
        let (status, said) = server.json("POST", &format!("/v1/predict?model={model}"), &bytes);
        assert_eq!(status, 200, "{said}");
        assert_eq!(said["likeliest"], expected[0]["likeliest"]);
        let (status, explained) =
            server.json("POST", &format!("/v1/explain?model={model}"), &bytes);
        assert_eq!(
            (status, explained["views"].is_array()),
            (200, model == "sl-vit")
        );
        assert_eq!(explained["layers"][0]["heads"].as_array().unwrap().len(), 2);
    }
    // An example is a test picture, in the middle of what predict would say of it.
    let (_, examples) = server.json("GET", "/v1/examples", &[]);
    assert_eq!(examples["examples"].as_array().unwrap().len(), 10);
    let (status, png) = server.ask("GET", "/v1/examples/0.png", &[], &[]);
    assert_eq!((status, &png[1..4]), (200, &b"PNG"[..]));

    let code = |method: &str, path: &str, headers: &[&str], body: &[u8]| {
        let (status, body) = server.ask(method, path, headers, body);
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        (
            status,
            told["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let predict = "/v1/predict?model=vit";
    for (method, path, headers, body, status, expected) in [
        (
            "POST",
            predict,
            &["Content-Type: text/html"][..],
            &bytes[..],
            415,
            "not_a_picture",
        ),
        (
            "POST",
            predict,
            &[],
            b"no picture at all, but some words",
            415,
            "not_a_picture",
        ),
        (
            "POST",
            predict,
            &[],
            &bytes[..bytes.len() / 2],
            422,
            "unreadable",
        ),
        ("POST", predict, &[], &vec![0; 2 << 20], 413, "too_large"),
        ("POST", "/v1/predict?model=cat", &[], &bytes, 404, "model"),
        ("POST", "/v1/predict", &[], &bytes, 400, "model"),
        ("GET", "/v1/predict", &[], &[], 405, "method"),
        ("GET", "/v1/nothing", &[], &[], 404, "not_found"),
        ("GET", "/", &["Host: evil.example"], &[], 403, "host"),
        (
            "POST",
            predict,
            &["Origin: http://evil.example"],
            &bytes,
            403,
            "origin",
        ),
    ] {
        assert_eq!(
            code(method, path, headers, body),
            (status, expected.to_owned()),
            "{path}"
        );
    }
    let (_, metrics) = server.ask("GET", "/metrics", &[], &[]);
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains(r#"smallvit_requests_total{path="/v1/predict",status="200"} 2"#),
        "{metrics}"
    );
    assert!(metrics.contains("smallvit_images_total 2"), "{metrics}");
    assert_eq!(
        server.ask("GET", "/healthz", &[], &[]),
        (200, b"ok\n".to_vec())
    );
    server.ends();

    let error = fails(
        smallvit(dir.path(), &["serve", "vit", "--listen", "0.0.0.0:0"]),
        2,
    );
    assert!(error.contains("--allow-remote"), "{error}");
}

#[cfg(all(unix, feature = "serve"))]
#[test]
fn a_watched_run_is_seen_to_go_on() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("runs")).unwrap();
    let server = Server::start(smallvit(
        dir.path(),
        &["watch", "runs", "--listen", "127.0.0.1:0"],
    ));
    let shown = || String::from_utf8(server.ask("GET", "/fragment", &[], &[]).1).unwrap();
    assert!(shown().contains("Nothing to show yet"));
    let (status, page) = server.ask("GET", "/", &[], &[]);
    assert_eq!(status, 200);
    assert!(String::from_utf8(page).unwrap().contains("EventSource"));
    succeeds(tiny(dir.path(), &["train", "--out", "runs/one"]));
    let began = Instant::now();
    while !shown().contains("411 test images right") {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", shown());
        std::thread::sleep(Duration::from_millis(100));
    }
    server.ends();
    let table = succeeds(smallvit(dir.path(), &["watch", "runs", "--plain"]));
    assert!(
        table.contains("3/3") && table.contains("test top-1"),
        "{table}"
    );
}
