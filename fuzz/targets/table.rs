//! CSV files, to learn from and to measure on, with the class in any column.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wordmill::text::table::{Reading, Table};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let path = wordmill_fuzz::file("table.csv", data);
    wordmill_fuzz::limited(|| {
        let label = [None, Some("k"), Some("1"), Some("2")][choice as usize & 3];
        if let Ok(table) = Table::read(&path, Reading::Train(label), &Default::default()) {
            assert_eq!(table.values.len(), table.len() * table.features.len());
            assert!(table.values.iter().all(|x| x.is_finite()));
            let Table { features, label, names, .. } = &table;
            assert!(table.classes.iter().all(|&class| (class as usize) < names.len()));
            let again = Table::read(&path, Reading::Like { features, label, names }, &Default::default()).expect("it is like itself");
            assert!(again.values == table.values && again.classes == table.classes);
        }
        let (features, names) = (["a".to_owned(), "b".to_owned()], ["x".to_owned(), "y".to_owned()]);
        _ = Table::read(&path, Reading::Like { features: &features, label: "k", names: &names }, &Default::default());
    });
});
