//! CSV files, to learn from and to measure on, with the class in any column.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use wordmill::error::Result;
use wordmill::text::table::{Missing, Reading, Style, Table};

fn read(path: &Path, reading: Reading, style: Style) -> Result<Table> {
    Table::read(path, reading, style, &|_, _| Ok(()), &Default::default())
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let path = wordmill_fuzz::file("table.csv", data);
    wordmill_fuzz::limited(|| {
        let label = [None, Some("k"), Some("1"), Some("2")][choice as usize & 3];
        let missing = [Missing::Mean, Missing::Drop, Missing::Fail, Missing::Mean][choice as usize >> 2 & 3];
        let style = Style { decimal_comma: choice & 16 > 0, missing, ..Style::default() };
        let reading = Reading::Train { label, drop: None, keep_index: choice & 32 > 0, centred: choice & 64 > 0 };
        if let Ok(table) = read(&path, reading, style) {
            assert_eq!(table.values.len(), table.len() * table.features.len());
            assert!(table.values.iter().all(|x| !x.is_infinite() && (missing == Missing::Mean || !x.is_nan())));
            let Table { features, label, names, base, .. } = &table;
            assert!(table.classes.iter().all(|&class| (class as usize) < names.len()));
            if let Ok(again) = read(&path, Reading::Like { features, label, names, base }, style) {
                assert_eq!(again.values.len(), again.len() * features.len());
            }
        }
        let (features, names) = (["a".to_owned(), "b".to_owned()], ["x".to_owned(), "y".to_owned()]);
        _ = read(&path, Reading::Like { features: &features, label: "k", names: &names, base: &[0.0; 2] }, style);
    });
});
