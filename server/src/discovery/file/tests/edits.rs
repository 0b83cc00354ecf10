//! Whatever way a file is edited in, it is followed, and never half of it.

use super::*;

#[tokio::test]
async fn a_file_renamed_into_place_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    for weight in [5, 7] {
        running.replace(&file(weight));
        running.weight(weight).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_written_in_place_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    for weight in [5, 7] {
        fs::write(&running.path, file(weight)).unwrap();
        running.weight(weight).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_that_changed_before_it_was_watched_is_followed() {
    let mut running = Running::usual();
    // The task has not run yet: this runtime has one thread, which is ours.
    fs::write(&running.path, file(5)).unwrap();
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    // As the kubelet does it: a folder per version, and one link that is
    // swapped.
    let version = |root: &Path, name: &str, weight| {
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("lookaside.toml"), file(weight)).unwrap();
        let link = root.join("..data_tmp");
        symlink(name, &link).unwrap();
        fs::rename(link, root.join("..data")).unwrap();
    };
    let mut running = Running::start("lookaside.toml", |path| {
        version(path.parent().unwrap(), "..v3", 3);
        symlink("..data/lookaside.toml", path).unwrap();
    });
    running.weight(3).await;
    for weight in [5, 7] {
        version(running.dir.path(), &format!("..v{weight}"), weight);
        fs::remove_dir_all(running.dir.path().join(format!("..v{}", weight - 2))).unwrap();
        running.weight(weight).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_file_behind_a_link_to_another_folder_is_followed() {
    let mut running = Running::start("lookaside.toml", |path| {
        let elsewhere = path.parent().unwrap().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("a.toml"), file(3)).unwrap();
        symlink("elsewhere/a.toml", path).unwrap();
    });
    running.weight(3).await;
    let target = running.dir.path().join("elsewhere/a.toml");
    fs::write(&target, file(5)).unwrap();
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn a_deleted_file_changes_nothing_and_one_made_anew_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    fs::remove_file(&running.path).unwrap();
    running.refused().await;
    running.unmoved();
    fs::write(&running.path, file(5)).unwrap();
    running.weight(5).await;
    running.accepted().await;
    running.end().await;
}

#[tokio::test]
async fn a_folder_made_anew_is_followed() {
    let mut running = Running::start("etc/lookaside.toml", |path| {
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, file(3)).unwrap();
    });
    running.weight(3).await;
    let folder = running.dir.path().join("etc");
    fs::remove_dir_all(&folder).unwrap();
    running.refused().await;
    running.unmoved();
    fs::create_dir(&folder).unwrap();
    fs::write(&running.path, file(5)).unwrap();
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn an_invalid_file_changes_nothing_and_the_next_valid_one_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    running.replace("[[service]]\nname = \"");
    running.refused().await;
    running.unmoved();
    running.replace(&file(5));
    running.weight(5).await;
    running.accepted().await;
    // Back to what is in force is as good as anything new.
    running.replace("nonsense");
    running.refused().await;
    running.replace(&file(5));
    running.accepted().await;
    running.end().await;
}

/// Edits the file again and again, without a pause that would be quiet, until it
/// was followed `times` times.
async fn followed_while_edited(mut running: Running, times: u32, edit: fn(&Path, &str)) {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let path = running.path.clone();
    let editor = std::thread::spawn(move || {
        let pause = Duration::from_millis(20);
        for weight in (1..1000).cycle() {
            edit(&path, &file(weight));
            if stopped.recv_timeout(pause).is_ok() {
                return;
            }
        }
    });
    for _ in 0..times {
        let changed = timeout(DEADLINE, running.config.changed()).await;
        changed.unwrap().unwrap();
    }
    stop.send(()).unwrap();
    editor.join().unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_file_that_is_replaced_without_a_pause_is_followed_meanwhile() {
    let running = Running::usual();
    followed_while_edited(running, 5, |path, text| {
        let other = path.with_extension("new");
        fs::write(&other, text).unwrap();
        fs::rename(other, path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_written_without_a_pause_is_followed_meanwhile() {
    let running = Running::usual();
    followed_while_edited(running, 2, |path, text| fs::write(path, text).unwrap()).await;
}

#[tokio::test]
async fn half_of_a_file_that_is_renamed_into_place_is_refused_when_it_stays() {
    let mut running = Running::usual();
    running.weight(3).await;
    running.replace("[[service]]\nname = ");
    running.refused().await;
    running.unmoved();
    running.replace(&file(5));
    running.weight(5).await;
    running.end().await;
}

#[tokio::test]
async fn what_is_not_a_file_in_its_place_changes_nothing_and_the_next_file_is_followed() {
    let mut running = Running::usual();
    running.weight(3).await;
    let places: [fn(&Path); 3] = [
        |path| rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ];
    for (weight, place) in (5..).zip(places) {
        fs::remove_file(&running.path).unwrap();
        place(&running.path);
        running.refused().await;
        if running.path.is_dir() {
            fs::remove_dir(&running.path).unwrap();
        }
        running.replace(&file(weight));
        running.weight(weight).await;
        running.accepted().await;
    }
    running.end().await;
}
