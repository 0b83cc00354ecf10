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

    /// Any edit.
    fn change(&self, mut edit: impl FnMut(&str) -> String) -> Result<change::Edited, Error> {
        let greeter = ServiceName::parse("greeter").unwrap();
        change(&self.file, &greeter, false, |text| Ok(edit(text)))
    }

    /// What the command line says, or how it fails.
    fn run(&self, line: &str) -> Result<String, (u8, String)> {
        let (command, args) = line.split_once(' ').unwrap();
        let args = args.split(' ');
        let file = self.file.to_str().unwrap();
        let args: Vec<&str> = args.chain(["--config", file]).collect();
        let edited = match command {
            "weight" => edit_weight(&read(&args).map_err(|error| (2, error))?),
            "drain" => edit_drain(&read(&args).map_err(|error| (2, error))?),
            "undrain" => edit_undrain(&read(&args).map_err(|error| (2, error))?),
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
        folder.run("drain greeter 10.0.0.1:80 10.0.0.2:80 --force"),
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
        (
            "weight greeter 10.0.0.1:80 many",
            "write one, e.g. 3 or 0.5",
        ),
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
    let broken = folder.change(|text| text.replace("3", "-3"));
    let error = broken.err().unwrap();
    assert_eq!(error.code(), 2);
    assert!(error.to_string().starts_with("not written, "), "{error}");
    assert_eq!(folder.text(), FILE);
}

#[test]
fn the_last_backend_keeps_its_calls_unless_it_is_forced() {
    for line in [
        "drain greeter 10.0.0.1:80 10.0.0.2:80",
        "drain greeter 10.0.0.2:80",
        "weight greeter 10.0.0.2:80 0",
    ] {
        let folder = Folder::new(&FILE.replace("weight = 3", "weight = 0"));
        let before = folder.text();
        let (code, error) = folder.run(line).unwrap_err();
        assert_eq!(code, 2, "{line}");
        assert!(error.contains("no backend left that gets calls"), "{error}");
        assert!(error.contains("add --force"), "{error}");
        assert_eq!(folder.text(), before);
        let said = folder.run(&format!("{line} --force")).unwrap();
        assert!(said.contains("no backend left that gets calls"), "{said}");
        assert_ne!(folder.text(), before);
    }
}

#[test]
fn a_service_that_has_nobody_left_may_be_drained_further() {
    let file = FILE.replace("weight = 3", "drain = true");
    let folder = Folder::new(&file.replace("0.2:80\"", "0.2:80\", drain = true"));
    let said = folder.run("drain greeter 10.0.0.1:80").unwrap();
    assert!(
        said.starts_with("greeter 10.0.0.1:80: drained already\n"),
        "{said}"
    );
}

#[test]
fn undraining_a_weight_of_0_says_what_it_is_now() {
    let folder = Folder::new(&FILE.replace("weight = 3", "weight = 0"));
    let said = folder.run("undrain greeter 10.0.0.1:80").unwrap();
    assert!(said.contains("its weight was 0 and is 1 now"), "{said}");
    assert_eq!(folder.text(), FILE.replace("weight = 3", "weight = 1"));
}

#[test]
fn a_backend_that_registers_is_drained_and_leaves_nothing_behind() {
    let file = FILE.replace(
        "backends =",
        "register = { cidrs = [\"10.0.0.0/8\"] }\nbackends =",
    );
    let folder = Folder::new(&file);
    let said = folder.run("drain greeter 10.0.0.9:80").unwrap();
    assert!(said.contains("an entry added to the file"), "{said}");
    assert!(folder.text().contains("10.0.0.9:80\", drain = true"));
    // Those that register are not the file's to count.
    let said = folder.run("drain greeter 10.0.0.1:80 10.0.0.2:80").unwrap();
    assert!(said.contains("only at backends that register"), "{said}");
    let said = folder
        .run("undrain greeter 10.0.0.9:80 10.0.0.1:80 10.0.0.2:80 10.0.0.8:80")
        .unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].ends_with("the entry that drained it is removed"),
        "{said}"
    );
    assert!(lines[3].contains("was not drained by the file"), "{said}");
    assert_eq!(folder.text(), file);
}

#[test]
fn an_edit_of_a_file_that_others_change_is_made_of_what_they_wrote() {
    let folder = Folder::new(FILE);
    let mut theirs =
        (4..=6).map(|weight| FILE.replace("weight = 3", &format!("weight = {weight}")));
    let ours = folder.change(|text| {
        if let Some(theirs) = theirs.next() {
            fs::write(&folder.file, theirs).unwrap();
        }
        text.replace("# ours", "# ours, edited")
    });
    assert!(ours.unwrap().changed);
    let wanted = FILE.replace("weight = 3", "weight = 6");
    assert_eq!(folder.text(), wanted.replace("# ours", "# ours, edited"));

    let mut count = 0;
    let never = folder.change(|text| {
        count += 1;
        fs::write(&folder.file, format!("{FILE}# {count}")).unwrap();
        text.replace("# ours", "# mine")
    });
    let error = never.err().unwrap();
    assert_eq!(error.code(), 1);
    assert!(
        error.to_string().contains("is being changed by others"),
        "{error}"
    );
    assert!(!folder.text().contains("# mine"));
}

#[test]
fn edits_at_the_same_time_are_all_made() {
    let backends: String = (1..=16)
        .map(|n| format!("{{ address = \"10.0.0.{n}:80\" }},\n"))
        .collect();
    let folder = Folder::new(&format!(
        "[[service]]\nname = \"greeter\"\nbackends = [\n{backends}]\n"
    ));
    std::thread::scope(|scope| {
        for n in 1..=16 {
            let folder = &folder;
            scope.spawn(move || {
                let line = format!("weight greeter 10.0.0.{n}:80 {}", n + 1);
                folder.run(&line).unwrap();
            });
        }
    });
    let text = folder.text();
    for n in 1..=16 {
        let entry = format!("10.0.0.{n}:80\", weight = {} }}", n + 1);
        assert!(text.contains(&entry), "{text}");
    }
}

#[test]
fn a_file_that_blocks_is_not_waited_for() {
    let folder = Folder::new(FILE);
    fs::remove_file(&folder.file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &folder.file, 0o600.into()).unwrap();
    let (code, error) = folder.run("drain greeter 10.0.0.1:80").unwrap_err();
    assert_eq!(code, 2);
    assert!(error.contains("it is a named pipe (FIFO)"), "{error}");
}
