//! Real files. What follows a change is waited for, with a deadline that only a
//! broken balancer meets.

use std::fs;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::parse;

const DEADLINE: Duration = Duration::from_secs(20);

struct Following {
    tokens: Arc<Tokens>,
    _rules: watch::Sender<Arc<Rules>>,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rules(files: &[&Path]) -> Arc<Rules> {
    let services = files.iter().enumerate().map(|(n, file)| {
        let file = file.display();
        format!("[[service]]\nname = \"s{n}.test\"\nregister = {{ token_file = \"{file}\" }}\n")
    });
    Arc::new(Rules::of(
        &parse(&services.collect::<String>(), "test").unwrap(),
    ))
}

fn follow(files: &[&Path]) -> Following {
    let rules = watch::Sender::new(rules(files));
    let tokens = Arc::new(Tokens::default());
    let (followed, named) = (Arc::clone(&tokens), rules.subscribe());
    let task = tokio::spawn(async move {
        followed.follow(named, CancellationToken::new()).await;
    });
    Following {
        tokens,
        _rules: rules,
        task,
    }
}

impl Following {
    /// Waits until it is so.
    async fn until(&self, so: impl Fn(&Tokens) -> bool) {
        let mut files = self.tokens.files.subscribe();
        let changed = async {
            while !so(&self.tokens) {
                files.changed().await.unwrap();
            }
        };
        timeout(DEADLINE, changed).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_a_whole_line_of_the_file_as_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    fs::write(&file, "# for greeter\none\n\n two \n").unwrap();
    let following = follow(&[&file]);
    let tokens = &following.tokens;
    assert!(!tokens.has(&file, "one"), "not read yet");
    timeout(DEADLINE, tokens.answered(&file)).await.unwrap();
    for good in ["one", "two"] {
        assert!(tokens.has(&file, good), "{good}");
    }
    for bad in ["", "on", "one ", "ones", "# for greeter"] {
        assert!(!tokens.has(&file, bad), "{bad:?}");
    }
    fs::write(&file, "three").unwrap();
    following.until(|tokens| tokens.has(&file, "three")).await;
    // What is missing counts with the next look.
    following.until(|tokens| !tokens.has(&file, "one")).await;
}

#[tokio::test]
async fn a_token_file_that_never_ends_holds_up_no_other_and_a_good_one_later_counts() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let good = folder.path().join("good");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    fs::write(&good, "one").unwrap();
    let zero = Path::new("/dev/zero");
    let following = follow(&[&pipe, zero, &good]);
    let tokens = &following.tokens;
    for file in [&pipe, zero, &good] {
        timeout(DEADLINE, tokens.answered(file)).await.unwrap();
    }
    assert!(tokens.has(&good, "one") && !tokens.has(&pipe, "one"));
    fs::remove_file(&pipe).unwrap();
    fs::write(&pipe, "two").unwrap();
    following.until(|tokens| tokens.has(&pipe, "two")).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_any_more_keeps_what_was_known() {
    let tokens = Tokens::default();
    let file = PathBuf::from("tokens");
    tokens.learn(file.clone(), Ok(vec!["one".to_owned()]));
    let unreadable = || Err(Failure::Unreadable("permission denied".to_owned()));
    for _ in 0..2 {
        tokens.learn(file.clone(), unreadable());
        assert!(tokens.has(&file, "one"));
    }
}

#[tokio::test]
async fn a_file_that_is_read_while_it_is_written_takes_no_token_away() {
    let tokens = Tokens::default();
    let file = PathBuf::from("tokens");
    let read = |words: &str| {
        let words = words.split_whitespace().map(str::to_owned);
        tokens.learn(file.clone(), Ok(words.collect()));
    };
    let has = |word| tokens.has(&file, word);
    read("one two");
    for half in ["", "one", "on"] {
        read(half);
        assert!(has("one") && has("two"), "{half}");
        read("one two");
    }
    read("two three");
    assert!(has("one") && has("two") && has("three"));
    read("two three");
    assert!(!has("one") && has("two") && has("three"));
    read("");
    read("");
    assert!(!has("two") && !has("three"));
}

#[tokio::test]
async fn a_file_that_is_deleted_has_no_tokens_but_one_that_is_replaced_in_two_steps_has() {
    let tokens = Tokens::default();
    let file = PathBuf::from("tokens");
    let one = || Ok(vec!["one".to_owned()]);
    tokens.learn(file.clone(), one());
    let mut changes = tokens.subscribe();
    changes.mark_unchanged();
    tokens.learn(file.clone(), Err(Failure::Missing));
    assert!(tokens.has(&file, "one"));
    tokens.learn(file.clone(), one());
    tokens.learn(file.clone(), Err(Failure::Missing));
    assert!(tokens.has(&file, "one") && !changes.has_changed().unwrap());
    tokens.learn(file.clone(), Err(Failure::Missing));
    assert!(!tokens.has(&file, "one") && changes.has_changed().unwrap());
    tokens.learn(file.clone(), one());
    assert!(tokens.has(&file, "one"));
}
