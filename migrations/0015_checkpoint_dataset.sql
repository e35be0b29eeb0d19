-- A published model in Hugging Face's layout. Arms that start from one are not pre-trained.
alter type dataset_kind add value 'checkpoint';
