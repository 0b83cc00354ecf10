//! Regular files, and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::Unanswered;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says why.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something that has no end, or waits for a writer.
    #[error("it is {0}; name a regular file")]
    NotRegular(&'static str),
    /// It has more bytes than this.
    #[error("it is larger than {}", size(*.0))]
    TooLarge(u64),
    /// There was no answer in time.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

impl ReadError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            ReadError::Unanswered(error) => error.into(),
            error => Self::new(io::ErrorKind::InvalidInput, error.to_string()),
        }
    }
}

/// Opens the regular file at `path` to be read. It may hang where the file
/// system does: for use in [`run`](super::run).
///
/// # Errors
/// If it is not a regular file or cannot be opened.
pub fn open(path: &Path) -> Result<File, ReadError> {
    // Looked at first: to open some devices does something.
    regular(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    // A pipe that has taken the file's place meanwhile waits for no writer, and
    // a terminal does not become ours.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed());
    let file = options.read(true).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads the regular file at `path`, of `most` bytes, on this thread. It may hang
/// where the file system does: for use in [`run`](super::run).
///
/// # Errors
/// If it is not a regular file, cannot be read, or is larger.
pub fn read_here(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(ReadError::TooLarge(most));
    }
    Ok(bytes)
}

fn regular(metadata: &fs::Metadata) -> Result<(), ReadError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(ReadError::NotRegular(if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe (FIFO)"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "not a file"
    }))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn reason(path: &Path) -> String {
        read_here(path, 10).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_a_regular_file_is_named_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        assert_eq!(
            reason(&pipe),
            "it is a named pipe (FIFO); name a regular file"
        );
        let link = folder.path().join("link");
        symlink(&pipe, &link).unwrap();
        assert!(reason(&link).contains("FIFO"));
        assert!(reason(Path::new("/dev/zero")).contains("a character device"));
        assert!(reason(folder.path()).contains("a directory"));
        let socket = folder.path().join("socket");
        let _bound = UnixListener::bind(&socket).unwrap();
        assert!(reason(&socket).contains("a socket"));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_a_longer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_here(&path, 10).unwrap(), b"0123456789");
        fs::write(&path, "0123456789a").unwrap();
        assert_eq!(reason(&path), "it is larger than 10 bytes");
        assert_eq!(size(1 << 20), "1 MiB");
        assert_eq!(size(64 << 20), "64 MiB");
        fs::remove_file(&path).unwrap();
        assert!(read_here(&path, 10).unwrap_err().is_missing());
    }

    #[test]
    fn a_reason_survives_as_an_error_of_the_system() {
        let error = io::Error::from(read_here(Path::new("/dev/zero"), 1).unwrap_err());
        assert!(error.to_string().contains("character device"), "{error}");
        let missing = io::Error::from(read_here(Path::new("/no/such"), 1).unwrap_err());
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
