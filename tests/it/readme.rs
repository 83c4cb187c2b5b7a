//! The two READMEs say the same.

/// Returns what must be equal: the levels of the headings, the code without its comments, the links of the tables.
fn outline(readme: &str) -> Vec<String> {
    let mut code = false;
    let mut outline = Vec::new();
    for line in readme.lines() {
        if line.starts_with("```") {
            code = !code;
            outline.push(line.to_owned());
        } else if code {
            let bare = line.split(" // ").next().unwrap_or_default();
            let bare = bare.split("   # ").next().unwrap_or_default().trim();
            if !bare.is_empty() && !bare.starts_with("// ") {
                outline.push(bare.to_owned());
            }
        } else if line.starts_with('#') {
            outline.push(line.chars().take_while(|c| *c == '#').collect());
        } else if line.starts_with("| [") {
            outline.extend(line.split(['(', ')']).skip(1).step_by(2).map(str::to_owned));
        }
    }
    outline
}

#[test]
fn the_chinese_readme_is_in_step() {
    let english = outline(include_str!("../../README.md"));
    let chinese = outline(include_str!("../../README.zh-CN.md"));
    assert!(english.len() > 100, "{english:?}");
    for (english, chinese) in english.iter().zip(&chinese) {
        assert_eq!(english, chinese);
    }
    assert_eq!(english.len(), chinese.len());
}

#[test]
fn every_example_is_in_the_table() {
    let readme = include_str!("../../README.md");
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for example in std::fs::read_dir(examples).unwrap() {
        let name = example.unwrap().file_name().into_string().unwrap();
        // The folder is what they share.
        let listed = readme.contains(&format!("(examples/{name})"));
        assert!(listed || !name.ends_with(".rs"), "{name}");
    }
}
