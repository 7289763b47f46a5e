//! The site.toml of a scene: the installation that the contract shows, in which scenes change keys.

/// The keys by table, each with its value as TOML text.
pub struct Site {
    tables: Vec<(&'static str, Vec<(String, String)>)>,
    accepts: Vec<String>,
}

const DEFAULT: &[(&str, &[(&str, &str)])] = &[
    (
        "site",
        &[
            ("name", r#""contoso-weu""#),
            ("cloud", r#""public""#),
            ("region", r#""westeurope""#),
            ("storage_accounts", r#"["contosobackup01"]"#),
            ("resolvers", r#"["168.63.129.16"]"#),
            ("virtual_network", r#"["10.10.0.0/16"]"#),
            ("time_servers", "[]"),
            ("aliases", "false"),
        ],
    ),
    ("names", &[("veeam-update-repository", r#"["repository.veeam.com"]"#)]),
    ("mirrors", &[]),
    ("conditions", &[]),
    (
        "roles",
        &[
            ("backup-appliance", r#"[["10.10.1.4", "fd10::1:4"]]"#),
            ("worker", r#"["10.10.2.0/24"]"#),
            ("backup-server", r#"["10.20.0.10"]"#),
            ("azure-vm", r#"["10.30.0.0/16"]"#),
            ("web-browser", r#"["10.40.0.0/16"]"#),
            ("console", r#"["10.20.0.30"]"#),
            ("veeam-one", r#"["10.20.0.31"]"#),
            ("smtp-server", r#"["mail.contoso.example", "10.20.0.25"]"#),
        ],
    ),
];

impl Default for Site {
    fn default() -> Self {
        let owned =
            |keys: &[(&str, &str)]| keys.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Site {
            tables: DEFAULT.iter().map(|&(table, keys)| (table, owned(keys))).collect(),
            accepts: Vec::new(),
        }
    }
}

impl Site {
    /// Sets `table.key` (everything after the first dot is the key) to a TOML value.
    pub fn set(&mut self, path: &str, value: &str) {
        let (table, key) = path.split_once('.').expect("table.key");
        let (_, keys) =
            self.tables.iter_mut().find(|(name, _)| *name == table).expect("a table of the contract");
        keys.retain(|(name, _)| name != key);
        keys.push((key.to_string(), value.to_string()));
    }

    /// Adds an `[[accept]]` entry, given as the lines of its body.
    pub fn accept(&mut self, body: &str) {
        self.accepts.push(body.to_string());
    }

    /// The file.
    pub fn toml(&self) -> String {
        let mut out = String::new();
        for (table, keys) in &self.tables {
            out.push_str(&format!("[{table}]\n"));
            for (key, value) in keys {
                out.push_str(&format!("\"{key}\" = {value}\n"));
            }
        }
        for body in &self.accepts {
            out.push_str("[[accept]]\n");
            body.lines().for_each(|line| out.push_str(&format!("{}\n", line.trim())));
        }
        out
    }
}
