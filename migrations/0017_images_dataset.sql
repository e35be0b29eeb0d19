-- Files of images with their classes, in the formats of MNIST and CIFAR.
alter type dataset_kind add value 'images';
