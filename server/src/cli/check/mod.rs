//! `lookaside check FILE`: says whether a file is a configuration.

mod files;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::print::printed;
use crate::config::{self, Config, ConfigErrors, parse};
use crate::discovery::file::read_config;
use crate::state::trouble_with;

/// Exit code for input that is wrong.
pub(super) const BAD_INPUT: u8 = 2;

/// Say whether a configuration file is right, and what is wrong with it
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Do not look at the files it names (certificates, keys, tokens, state), as where they are not
    #[arg(long)]
    pub(super) no_files: bool,
}

/// Checks the file: what is there to stdout and 0, or every fault to stderr
/// and 2.
#[must_use]
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    printed(|out, err| ExitCode::from(check(args, out, err)))
}

/// The answer goes to `out`, warnings and faults to `err`.
fn check(args: &CheckArgs, out: &mut impl Write, err: &mut impl Write) -> u8 {
    match read(args) {
        Ok(config) => {
            let file = args.file.display();
            let _ = writeln!(out, "{file}: ok: {}", summary(&config));
            for warning in warnings(&config, args.no_files) {
                let _ = writeln!(err, "{file}: warning: {warning}");
            }
            0
        }
        Err(errors) => {
            let _ = writeln!(err, "{errors}");
            BAD_INPUT
        }
    }
}

fn read(args: &CheckArgs) -> Result<Config, ConfigErrors> {
    let text = read_config(&args.file)?;
    let file = args.file.display().to_string();
    let config = parse(&text, &file)?;
    let errors = if args.no_files {
        Vec::new()
    } else {
        files::faults(&config, &text)
    };
    if errors.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors { file, errors })
    }
}

/// What is valid, and still not what a running balancer would take over from a
/// fuller file.
fn warnings(config: &Config, no_files: bool) -> Vec<String> {
    if config.services.is_empty() {
        let none = "no service; a balancer that starts with it is not ready, and one that runs \
                    refuses to lose all it has";
        return vec![none.to_owned()];
    }
    // The balancer's machine and user may be others.
    let state = config.balancer.state.as_ref().filter(|_| !no_files);
    let state = state.and_then(|path| {
        let trouble = trouble_with(path)?;
        let path = path.display();
        Some(format!(
            "balancer.state {path}: learned weights could not be kept here: {trouble}"
        ))
    });
    // Where backends register, that is how it should be.
    let services = config.services.iter();
    let empty = services.filter(|s| s.backends.is_empty() && s.register.is_none());
    let empty = empty.map(|service| {
        format!(
            "service `{}` has no backend, and none may register, so its clients fall back; write \
             backends or register (a running balancer refuses to lose all that a service has)",
            service.name
        )
    });
    empty.chain(state).chain(config::warnings(config)).collect()
}

fn summary(config: &Config) -> String {
    let services = config.services.len();
    let backends: usize = config.services.iter().map(|s| s.backends.len()).sum();
    let plural = |count| if count == 1 { "" } else { "s" };
    format!(
        "{services} service{}, {backends} backend{}",
        plural(services),
        plural(backends)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: Option<&str>) -> (u8, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = CheckArgs {
            file,
            no_files: false,
        };
        let code = check(&args, &mut out, &mut err);
        let folder = format!("{}/", dir.path().display());
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&folder, "");
        (code, text(out), text(err))
    }

    #[test]
    fn a_right_file_is_summed_up() {
        let service = |n: usize| format!("[[service]]\nname = \"s{n}\"\n");
        let backend = "backends = [{ address = \"10.0.0.1:80\" }]\n";
        let ok = |out: &str| (0, out.to_owned(), String::new());
        let text = service(1) + backend;
        assert_eq!(
            checked(Some(&text)),
            ok("a.toml: ok: 1 service, 1 backend\n")
        );
        let text = text + &service(2) + &backend.replace("0.1", "0.2");
        assert_eq!(
            checked(Some(&text)),
            ok("a.toml: ok: 2 services, 2 backends\n")
        );
    }

    #[test]
    fn what_a_running_balancer_would_refuse_is_warned_of() {
        let (code, out, err) = checked(Some("[[service]]\nname = \"s1\"\n"));
        assert_eq!(
            (code, out.as_str()),
            (0, "a.toml: ok: 1 service, 0 backends\n")
        );
        assert!(
            err.starts_with("a.toml: warning: service `s1` has no backend"),
            "{err}"
        );
        let (code, out, err) = checked(Some(""));
        assert_eq!(
            (code, out.as_str()),
            (0, "a.toml: ok: 0 services, 0 backends\n")
        );
        assert!(err.starts_with("a.toml: warning: no service"), "{err}");
    }

    #[test]
    fn a_state_that_could_not_be_written_is_warned_of() {
        let services = "[[service]]\nname = \"s1\"\nbackends = [{ address = \"10.0.0.1:80\" }]\n";
        let file = format!("[balancer]\nstate = \"/no/such/folder/state\"\n{services}");
        let (code, _, err) = checked(Some(&file));
        assert_eq!(code, 0);
        let wanted = "a.toml: warning: balancer.state /no/such/folder/state: learned weights";
        assert!(err.starts_with(wanted), "{err}");
        assert!(err.contains("make it"), "{err}");
    }

    #[test]
    fn what_cannot_work_as_meant_is_warned_of_and_the_code_is_0() {
        let service = "[[service]]\nname = \"s1\"\npolicy = \"feedback\"\n\
                       backends = [{ address = \"10.0.0.1:80\" }]\n";
        let (code, _, err) = checked(Some(service));
        assert_eq!(code, 0);
        let wanted = "a.toml: warning: service `s1`: policy = \"feedback\" is told of no";
        assert!(err.starts_with(wanted), "{err}");
    }

    #[test]
    fn a_service_that_backends_register_for_is_fine() {
        let service = "[[service]]\nname = \"s1\"\nregister = { cidrs = [\"10.0.0.0/8\"] }\n";
        let ok = "a.toml: ok: 1 service, 0 backends\n";
        assert_eq!(checked(Some(service)), (0, ok.to_owned(), String::new()));
    }

    #[test]
    fn files_that_are_not_there_or_of_no_use_are_faults_at_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("empty"), "# nobody\n").unwrap();
        std::fs::write(at("text"), "not PEM").unwrap();
        let register = |file: &str| format!("register = {{ token_file = \"{file}\" }}");
        for (lines, place, wanted) in [
            (
                register(&at("none")),
                "a.toml:3:27: service[0].register.token_file: ",
                "cannot be read: ",
            ),
            (
                register(&at("empty")),
                "a.toml:3:27: service[0].register.token_file: ",
                "it has no token",
            ),
            (
                format!("tls = {{ ca = \"{}\" }}", at("none")),
                "a.toml:3:7: service[0].tls: cannot read ",
                "none",
            ),
            (
                format!("tls = {{ ca = \"{}\" }}", at("text")),
                "a.toml:3:7: service[0].tls: ",
                "text has ",
            ),
            (
                format!(
                    "[balancer.tls]\ncert = \"{}\"\nkey = \"{}\"",
                    at("text"),
                    at("text")
                ),
                "a.toml:3:1: balancer.tls: ",
                "text has ",
            ),
            (
                format!("[backend_tls]\nca = \"{}\"", at("none")),
                "a.toml:3:1: backend_tls: cannot read ",
                "none",
            ),
        ] {
            let text = format!("[[service]]\nname = \"s1\"\n{lines}\n");
            let (code, out, err) = checked(Some(&text));
            assert_eq!((code, out.as_str()), (BAD_INPUT, ""), "{lines}");
            assert!(err.starts_with(place) && err.contains(wanted), "{err}");
            assert!(
                err.contains("--no-files") && err.lines().count() == 1,
                "{err}"
            );
            let file = at("a.toml");
            std::fs::write(&file, &text).unwrap();
            let args = CheckArgs {
                file: file.into(),
                no_files: true,
            };
            assert_eq!(check(&args, &mut Vec::new(), &mut Vec::new()), 0, "{lines}");
        }
    }

    #[test]
    fn every_fault_is_told_and_the_code_is_2() {
        let (code, out, err) = checked(Some("a = 1\nb = 2\n"));
        assert_eq!((code, out.as_str()), (2, ""));
        let lines: Vec<_> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(
            lines[0].starts_with("a.toml:1:1: a: unknown key `a`;"),
            "{err}"
        );
        assert!(
            lines[1].starts_with("a.toml:2:1: b: unknown key `b`;"),
            "{err}"
        );
    }

    #[test]
    fn a_missing_file_is_bad_input() {
        let (code, out, err) = checked(None);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(
            err.starts_with("a.toml: cannot be read: No such file"),
            "{err}"
        );
    }
}
