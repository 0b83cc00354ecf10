//! The commands on files of their own.

use std::fs;

use clap::{Args, Command};
use tempfile::TempDir;

use super::*;

const FILE: &str = r#"# ours
[[service]]
name = "greeter.test"
aliases = ["greeter"]
backends = [
  { address = "10.0.0.1:80", weight = 3 }, # old iron
  { address = "10.0.0.2:80" },
]
"#;

struct Folder {
    dir: TempDir,
    file: PathBuf,
}

impl Folder {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lookaside.toml");
        fs::write(&file, text).unwrap();
        Self { dir, file }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// What the command line says, or how it fails.
    fn run(&self, line: &str) -> Result<String, (u8, String)> {
        let (command, args) = line.split_once(' ').unwrap();
        let args = args.split(' ');
        let file = self.file.to_str().unwrap();
        let args: Vec<&str> = args.chain(["--config", file]).collect();
        let edited = match command {
            "weight" => edit_weight(&read(&args).map_err(|error| (2, error))?),
            "drain" => edit_drain(&read(&args).map_err(|error| (2, error))?, true),
            "undrain" => edit_drain(&read(&args).map_err(|error| (2, error))?, false),
            other => panic!("{other}"),
        };
        edited.map_err(|error| (error.code(), error.to_string()))
    }
}

fn read<A: Args>(args: &[&str]) -> Result<A, String> {
    let command = A::augment_args(Command::new("test").no_binary_name(true));
    let matches = command
        .try_get_matches_from(args)
        .map_err(|e| e.to_string())?;
    A::from_arg_matches(&matches).map_err(|error| error.to_string())
}

#[test]
fn a_weight_is_written_and_what_was_is_said() {
    let folder = Folder::new(FILE);
    assert_eq!(
        folder.run("weight greeter 10.0.0.1:80 5"),
        Ok("greeter 10.0.0.1:80: weight 3 -> 5\n".to_owned())
    );
    assert_eq!(folder.text(), FILE.replace("weight = 3", "weight = 5"));
    assert_eq!(
        folder.run("weight Greeter.Test. 10.0.0.2:80 0.5"),
        Ok("greeter.test 10.0.0.2:80: weight 1 -> 0.5\n".to_owned())
    );
    let text = folder.text();
    assert_eq!(
        folder.run("weight greeter 10.0.0.1:80 5"),
        Ok("greeter 10.0.0.1:80: weight is 5 already\n".to_owned())
    );
    assert_eq!(folder.text(), text);
    assert_eq!(fs::read_dir(folder.dir.path()).unwrap().count(), 1);
}

#[test]
fn draining_and_undraining_are_said_and_undone() {
    let folder = Folder::new(FILE);
    assert_eq!(
        folder.run("drain greeter 10.0.0.1:80"),
        Ok("greeter 10.0.0.1:80: drained\n".to_owned())
    );
    assert_eq!(
        folder.run("drain greeter 10.0.0.1:80 10.0.0.2:80"),
        Ok("greeter 10.0.0.1:80: drained already\n\
            greeter 10.0.0.2:80: drained\n\
            greeter has no backend left that gets calls: those of clients without fallback addresses fail\n"
            .to_owned())
    );
    assert_eq!(
        folder.run("weight greeter 10.0.0.1:80 4"),
        Ok("greeter 10.0.0.1:80: weight 3 -> 4\n\
            greeter 10.0.0.1:80 is drained and stays so\n"
            .to_owned())
    );
    assert_eq!(
        folder.run("undrain greeter 10.0.0.1:80 10.0.0.2:80"),
        Ok("greeter 10.0.0.1:80: undrained\ngreeter 10.0.0.2:80: undrained\n".to_owned())
    );
    assert_eq!(folder.text(), FILE.replace("weight = 3", "weight = 4"));
    assert_eq!(
        folder.run("undrain greeter 10.0.0.1:80"),
        Ok("greeter 10.0.0.1:80: was not drained\n".to_owned())
    );
}

#[test]
fn one_unknown_backend_and_none_is_drained() {
    let folder = Folder::new(FILE);
    let (code, error) = folder
        .run("drain greeter 10.0.0.1:80 10.0.0.9:80")
        .unwrap_err();
    assert_eq!(code, 2);
    assert!(
        error.ends_with(
            "lookaside.toml: service `greeter.test` has no backend 10.0.0.9:80; \
             it has 10.0.0.1:80, 10.0.0.2:80"
        ),
        "{error}"
    );
    assert_eq!(folder.text(), FILE);
}

#[test]
fn bad_arguments_are_refused_with_what_would_be_right() {
    let folder = Folder::new(FILE);
    for (line, wanted) in [
        ("weight greeter 10.0.0.1:80 -1", "write a number above 0"),
        ("weight greeter 10.0.0.1:80 nan", "write a number above 0"),
        ("weight greeter 10.0.0.1:80 many", "write one, as 3 or 0.5"),
        ("weight greeter host:80 1", "write ip:port"),
        ("weight greeter 10.0.0.1:0 1", "port 0 cannot be called"),
        ("weight gre\u{0}ter 10.0.0.1:80 1", "letters, digits"),
        ("drain greeter", "<BACKEND>..."),
        ("drain greter 10.0.0.1:80", "did you mean `greeter`?"),
    ] {
        let (code, error) = folder.run(line).unwrap_err();
        assert_eq!(code, 2, "{line}");
        assert!(error.contains(wanted), "{line}\n{error}");
    }
    assert_eq!(folder.text(), FILE);
}

#[test]
fn a_file_that_is_wrong_is_not_made_worse() {
    let wrong = FILE.replace("weight = 3", "weight = 3, colour = 1");
    let folder = Folder::new(&wrong);
    let (code, error) = folder.run("weight greeter 10.0.0.2:80 5").unwrap_err();
    assert_eq!(code, 2);
    assert!(error.contains("unknown key `colour`"), "{error}");
    assert_eq!(folder.text(), wrong);

    let folder = Folder::new(FILE);
    fs::remove_file(&folder.file).unwrap();
    let (code, error) = folder.run("drain greeter 10.0.0.1:80").unwrap_err();
    assert_eq!(code, 2);
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn an_edit_that_would_break_the_file_is_not_written() {
    let folder = Folder::new(FILE);
    let broken = edit(&folder.file, |text| Ok(text.replace("3", "-3")));
    let error = broken.err().unwrap();
    assert_eq!(error.code(), 2);
    assert!(error.to_string().starts_with("not written, "), "{error}");
    assert_eq!(folder.text(), FILE);
}
