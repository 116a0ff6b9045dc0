//! Paths as text, with `/` as separator: rule files name others relative to themselves.

/// The directory part of a path, without the final slash; empty when there is none.
pub fn directory_of(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(end) => &path[..end],
        None => "",
    }
}

/// Resolves `name` as seen from the file `from`: an absolute name stays, a relative one starts in `from`'s directory.
/// `.` and `..` segments are folded.
pub fn resolve(from: &str, name: &str) -> String {
    let directory = directory_of(from);
    let joined = if name.starts_with('/') || directory.is_empty() {
        name.to_string()
    } else if directory == "/" {
        format!("/{name}")
    } else {
        format!("{directory}/{name}")
    };
    normalize(&joined)
}

fn normalize(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => {
                segments.pop();
            }
            ".." if absolute => {}
            other => segments.push(other),
        }
    }
    let joined = segments.join("/");
    if absolute {
        format!("/{joined}")
    } else {
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_relative_names_from_the_files_directory() {
        assert_eq!(resolve("crs/rules/a.conf", "x.data"), "crs/rules/x.data");
        assert_eq!(resolve("crs/rules/a.conf", "../x.data"), "crs/x.data");
        assert_eq!(resolve("a.conf", "./x.data"), "x.data");
        assert_eq!(resolve("/a.conf", "x.data"), "/x.data");
        assert_eq!(resolve("rules/a.conf", "/etc/x.data"), "/etc/x.data");
        assert_eq!(resolve("a.conf", "../x"), "../x");
    }
}
